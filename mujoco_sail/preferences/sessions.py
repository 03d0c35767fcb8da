"""Label sessions under a budget: the only way from the task reward to a preference learner."""

from collections.abc import Callable
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from mujoco_sail.core.replay_buffer import ReplayBuffer, Segments
from mujoco_sail.core.state import Tree
from mujoco_sail.core.streams import Streams
from mujoco_sail.preferences.queries import Candidates, Scheme, ranking
from mujoco_sail.preferences.teacher import RecentRewards, TeacherLabels, label_pairs
from mujoco_sail.recipes.task import Task

# Batches of candidates that a session shows a teacher who skips, before giving up.
MOST_ROUNDS = 20


@dataclass(frozen=True)
class Pairs:
    """Pairs of segments, the two sides on axis 2.

    Attributes:
        inputs: Observations and actions, [M, P, 2, T, O + A].
        valid: 1 at steps of a segment, 0 at padding, [M, P, 2, T].
        task_reward: [M, P, 2, T]; for the teacher only.
        start: Transitions that the member had stored before each segment, [M, P, 2].
    """

    inputs: Tensor
    valid: Tensor
    task_reward: Tensor
    start: Tensor

    @classmethod
    def of(cls, first: Segments, second: Segments) -> "Pairs":
        """Puts two sets of segments side by side."""
        both = [
            torch.stack([getattr(first, name), getattr(second, name)], dim=2)
            for name in ("observation", "action", "valid", "task_reward", "start")
        ]
        return cls(torch.cat(both[:2], -1), *both[2:])

    @classmethod
    def drawn(
        cls, replay_buffer: ReplayBuffer, streams: Streams, count: int, steps: int
    ) -> "Pairs":
        """Draws `count` pairs of segments of `steps` steps uniformly from the query window."""
        first = replay_buffer.window_segments(streams, count, steps)
        return cls.of(first, replay_buffer.window_segments(streams, count, steps))

    @classmethod
    def none(cls, members: int, steps: int, size: int, device: torch.device) -> "Pairs":
        """No pairs of segments of `steps` steps, `size` is O + A."""
        empty = torch.zeros(members, 0, 2, steps, device=device)
        inputs = empty.unsqueeze(-1).expand(-1, -1, -1, -1, size)
        return cls(inputs, empty, empty, empty[..., 0].long())

    @classmethod
    def joined(cls, parts: "list[Pairs]") -> "Pairs":
        """Lines up pairs along P."""
        columns = ([getattr(part, f.name) for part in parts] for f in fields(cls))
        return cls(*(torch.cat(column, 1) for column in columns))

    def take(self, index: Tensor) -> "Pairs":
        """The pairs at each member's indices, [M, P']."""
        rows = torch.arange(len(index), device=index.device).unsqueeze(1)
        return self._each(lambda column: column[rows, index])

    def part(self, at: slice) -> "Pairs":
        """Every member's pairs of some places."""
        return self._each(lambda column: column[:, at])

    def member(self, m: int) -> "Pairs":
        """One member's, [1, P, ...]."""
        return self._each(lambda column: column[m : m + 1])

    def _each(self, change: Callable[[Tensor], Tensor]) -> "Pairs":
        return Pairs(*(change(getattr(self, f.name)) for f in fields(self)))

    def side(self, index: int) -> tuple[Tensor, Tensor]:
        """Task reward and validity of one side, each [M, P, T]."""
        return self.task_reward[:, :, index], self.valid[:, :, index]

    def returns(self) -> Tensor:
        """Task return of both segments, [M, P, 2]."""
        return self.task_reward.sum(-1)


@dataclass(frozen=True)
class Query:
    """One question, a row of `feedback.csv`; `label` is None where the teacher refused."""

    step: int
    session: int
    return_1: float
    return_2: float
    label: float | None


class Feedback:
    """The teacher of a stack, its budget and its record.

    Args:
        task: Teacher, budget and sizes.
        seeds: Seeds of the M members.
        device: Where the data lie.

    Attributes:
        labels_used: Labels given to each member so far; all members get the same.
        queries: Per member, every question asked by this process.
        faults: Why a member did not get its labels, by its place; its run has failed.
    """

    def __init__(self, task: Task, seeds: list[int], device: torch.device) -> None:
        self.task, self.seeds, self.device = task, seeds, device
        self.labels_used = 0
        self.sessions = 0
        self.queries: list[list[Query]] = [[] for _ in seeds]
        self.faults: dict[int, str] = {}

    def state(self) -> Tree:
        """See `core.state`; the record is kept with the files it is for."""
        return {"used": self.labels_used, "sessions": self.sessions}

    def load(self, saved: Tree) -> None:
        """See `core.state`."""
        self.labels_used, self.sessions = saved["used"], saved["sessions"]

    @property
    def labels_left(self) -> int:
        """Labels of the budget not yet given, per member."""
        return self.task.labels - self.labels_used

    def collect_labels(
        self,
        step: int,
        replay_buffer: ReplayBuffer,
        scheme: Scheme,
        probability: Callable[[Pairs], Tensor],
        labelled: Pairs,
    ) -> tuple[Pairs, Tensor]:
        """Asks until every member has its labels of this session.

        A member whose teacher refuses too much is one of `faults`; what it gets are no labels.

        Args:
            step: Environment step, for the record.
            replay_buffer: Where the segments come from.
            scheme: Order in which candidates are asked about.
            probability: P(first preferred) of pairs by each network, [M, E, P].
            labelled: Those of earlier sessions.

        Returns:
            The labelled pairs and their labels, [M, P].

        Raises:
            RuntimeError: The budget is spent.
        """
        wanted = self.task.labels_per_session
        if wanted > self.labels_left:
            raise RuntimeError(f"the budget of {self.task.labels} labels is spent")
        streams = Streams(self.seeds, "session", self.device, self.sessions)
        rounds: list[tuple[Pairs, Tensor]] = []
        chosen: list[list[int]] = [[] for _ in self.seeds]
        low, _ = self.task.reward_range
        recent = RecentRewards.of(replay_buffer.window_task_rewards(), low)
        while min(map(len, chosen)) < wanted and len(rounds) < MOST_ROUNDS:
            pairs = self._draw(replay_buffer, streams)
            size = replay_buffer.observation.shape[-1]
            candidates = Candidates(probability(pairs), pairs.inputs, labelled.inputs, size)
            order = ranking(scheme, candidates).tolist()
            given = label_pairs(
                self.task.oracle,
                self.task.reward_range,
                pairs.side(0),
                pairs.side(1),
                recent,
                streams,
            )
            offset = len(rounds) * pairs.inputs.shape[1]
            for member, indices in enumerate(chosen):
                asked = self._ask(member, step, pairs, given, order[member], wanted - len(indices))
                indices += [offset + index for index in asked]
            rounds.append((pairs, given.label))
        self.labels_used += wanted
        self.sessions += 1
        for member, indices in enumerate(chosen):
            if missing := wanted - len(indices):
                self.faults[member] = (
                    f"teacher '{self.task.teacher}' refused nearly all of {MOST_ROUNDS} rounds "
                    f"of {wanted * self.task.candidates_per_label} pairs; lower its 'skip'"
                )
                indices.extend([0] * missing)  # in place of labels, until the end of this step
        index = torch.tensor(chosen, device=self.device)
        labels = torch.cat([label for _, label in rounds], 1).gather(1, index)
        return Pairs.joined([pairs for pairs, _ in rounds]).take(index), labels

    def held_out(self, replay_buffer: ReplayBuffer) -> tuple[Pairs, Tensor]:
        """Fresh pairs with the true preference: for measuring, never for learning.

        Returns:
            Uniformly drawn pairs and their perfect labels, [M, P].
        """
        pairs = self._draw(
            replay_buffer, Streams(self.seeds, "held out", self.device, self.sessions)
        )
        margin = pairs.returns()[..., 0] - pairs.returns()[..., 1]
        return pairs, 0.5 * (1 + margin.sign())

    def _draw(self, replay_buffer: ReplayBuffer, streams: Streams) -> Pairs:
        count = self.task.labels_per_session * self.task.candidates_per_label
        return Pairs.drawn(replay_buffer, streams, count, self.task.segment_steps)

    def _ask(
        self,
        member: int,
        step: int,
        pairs: Pairs,
        given: TeacherLabels,
        order: list[int],
        wanted: int,
    ) -> list[int]:
        """Asks one member's pairs in order until enough are answered; returns those."""
        returns = pairs.returns()[member].tolist()
        labels, answered = given.label[member].tolist(), given.answered[member].tolist()
        chosen: list[int] = []
        for index in order:
            if len(chosen) == wanted:
                break
            label = labels[index] if answered[index] else None
            return_1, return_2 = returns[index]
            self.queries[member].append(Query(step, self.sessions, return_1, return_2, label))
            if label is not None:
                chosen.append(index)
        return chosen
