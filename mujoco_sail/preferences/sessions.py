"""Label sessions with a budget: the only way in which agents get information on the task reward."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from mujoco_sail.core.replay_buffer import ReplayBuffer
from mujoco_sail.core.state import Tree
from mujoco_sail.core.streams import Streams
from mujoco_sail.preferences.pairs import Pairs
from mujoco_sail.preferences.queries import Candidates, Scheme, ranking
from mujoco_sail.preferences.teacher import (
    RecentRewards,
    TeacherLabels,
    flip_similar,
    label_pairs,
)
from mujoco_sail.recipes.task import Task

# Batches of candidates after which a session fails if the teacher skips too many.
MOST_ROUNDS = 20


@dataclass(frozen=True)
class Session:
    """The labels of one session.

    Attributes:
        number: Sessions so far, this one included; whatever is random in the fit that follows has
            streams of this number.
        pairs: The P newest labelled pairs.
        labels: 1 where the first segment is preferred, 0 where the second, 0.5 for a tie, [M, P].
    """

    number: int
    pairs: Pairs
    labels: Tensor

    @property
    def first(self) -> bool:
        """Whether no labels were given before."""
        return self.number == 1


@dataclass(frozen=True)
class Query:
    """Query, a row of `feedback.csv`; `label` is None if the teacher skipped it.

    `session` counts from 0, unlike `Session.number`.
    """

    step: int
    session: int
    return_1: float
    return_2: float
    label: float | None


class Respondent(Protocol):
    """Who answers in the place of the synthetic teacher, for a stack of one member."""

    def label(
        self, pairs: Pairs, order: list[int], place: tuple[int, int, int], used: int, wanted: int
    ) -> TeacherLabels:
        """Labels pairs; see `preferences.person.Person.label`."""


class Feedback:
    """Teacher of a stack, with its label budget and the record of its queries.

    Args:
        task: The task, with teacher, budget and sizes.
        seeds: Seeds of the M members.
        device: Device of the data.
        person: Who answers; None for the synthetic teacher.

    Attributes:
        labels_used: Labels given to each member so far, the same number for all.
        queries: All queries by this process, a list per member.
        faults: Reason why a member got too few labels, by index of the member; its run fails.
    """

    def __init__(
        self,
        task: Task,
        seeds: list[int],
        device: torch.device,
        person: Respondent | None = None,
    ) -> None:
        self.task, self.seeds, self.device, self.person = task, seeds, device, person
        self.labels_used = 0
        self.sessions = 0
        self.queries: list[list[Query]] = [[] for _ in seeds]
        self.faults: dict[int, str] = {}

    def state(self) -> Tree:
        """State for a checkpoint, see `core.state`, without the queries, which are in files."""
        return {"used": self.labels_used, "sessions": self.sessions}

    def load(self, saved: Tree) -> None:
        """Restores the state that `state` returned."""
        self.labels_used, self.sessions = saved["used"], saved["sessions"]

    @property
    def labels_left(self) -> int:
        """Remaining label budget per member."""
        return self.task.labels - self.labels_used

    def collect_labels(
        self,
        step: int,
        replay_buffer: ReplayBuffer,
        scheme: Scheme,
        probability: Callable[[Pairs], Tensor],
        labelled: Pairs,
        pair: Callable[[Pairs], Pairs],
    ) -> Session:
        """Queries the teacher until every member has its labels of this session.

        A member whose teacher skips too many queries gets an entry in `faults`, and placeholders
        for its missing labels.

        Args:
            step: Environment step, for the record.
            replay_buffer: Replay buffer to sample segments from.
            scheme: Query scheme, which orders the candidates.
            probability: Function from pairs to P(first preferred) by each network, [M, E, P].
            labelled: Pairs labelled in earlier sessions.
            pair: Function from uniformly drawn pairs to the candidate pairs.

        Returns:
            The labelled pairs and their labels.

        Raises:
            RuntimeError: The budget is spent.
        """
        size = replay_buffer.observation.shape[-1]
        low, _ = self.task.reward_range
        recent = RecentRewards.of(replay_buffer.window_task_rewards(), low)

        def order(pairs: Pairs) -> Tensor:
            candidates = Candidates(probability(pairs), pairs.inputs, labelled.inputs, size)
            return ranking(scheme, candidates)

        def draw(streams: Streams) -> Pairs:
            return pair(self._draw(replay_buffer, streams))

        return self.collect(step, draw, order, lambda _: recent)

    def collect(
        self,
        step: int,
        draw: Callable[[Streams], Pairs],
        order: Callable[[Pairs], Tensor],
        recent: Callable[[Pairs], RecentRewards],
    ) -> Session:
        """Like `collect_labels`, with pairs from any source.

        Args:
            step: Environment step, for the record.
            draw: Function from the session's streams to the candidates of one round.
            order: Function from candidates to the order in which to ask, [M, P].
            recent: Function from candidates to the rewards that the teacher's thresholds refer to.

        Returns:
            The session with its labelled pairs.

        Raises:
            RuntimeError: The label budget is spent.
        """
        wanted = self.task.labels_per_session
        if wanted > self.labels_left:
            raise RuntimeError(f"the budget of {self.task.labels} labels is spent")
        streams = Streams(self.seeds, "session", self.device, self.sessions)
        rounds: list[tuple[Pairs, Tensor]] = []
        chosen: list[list[int]] = [[] for _ in self.seeds]
        while min(map(len, chosen)) < wanted and len(rounds) < MOST_ROUNDS:
            pairs = draw(streams)
            ranked = order(pairs).tolist()
            given = label_pairs(
                self.task.oracle,
                self.task.reward_range,
                pairs.side(0),
                pairs.side(1),
                recent(pairs),
                streams,
            )
            if self.person is not None:  # after as many draws as for a synthetic teacher
                place, left = (step, self.sessions, len(rounds)), wanted - len(chosen[0])
                given = self.person.label(pairs, ranked[0], place, self.labels_used, left)
            if fraction := self.task.oracle.similarity:  # no draw, and so equal streams, without it
                label = flip_similar(given.label, pairs.inputs, pairs.valid, fraction, streams)
                given = TeacherLabels(label, given.answered)
            offset = len(rounds) * pairs.inputs.shape[1]
            for member, indices in enumerate(chosen):
                asked = self._ask(member, step, pairs, given, ranked[member], wanted - len(indices))
                indices += [offset + index for index in asked]
            rounds.append((pairs, given.label))
        self.labels_used += wanted
        self.sessions += 1
        for member, indices in enumerate(chosen):
            if missing := wanted - len(indices):
                advice = "prefer one segment more often" if self.task.human else "lower its 'skip'"
                self.faults[member] = (
                    f"teacher '{self.task.teacher}' refused nearly all of {MOST_ROUNDS} rounds "
                    f"of {wanted * self.task.candidates_per_label} pairs; {advice}"
                )
                indices.extend([0] * missing)  # placeholders; the run fails after this step
        index = torch.tensor(chosen, device=self.device)
        labels = torch.cat([label for _, label in rounds], 1).gather(1, index)
        pairs = Pairs.joined([pairs for pairs, _ in rounds]).take(index)
        return Session(self.sessions, pairs, labels)

    def held_out(self, replay_buffer: ReplayBuffer) -> tuple[Pairs, Tensor]:
        """Samples held-out pairs with true preferences, for evaluation of the reward model only.

        Returns:
            Uniformly drawn pairs and their true labels, [M, P].
        """
        pairs = self._draw(
            replay_buffer, Streams(self.seeds, "held out", self.device, self.sessions)
        )
        return pairs, pairs.true_labels()

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
        """Queries one member's pairs in order until enough are answered; returns their indices."""
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
