"""The replay buffer, member axis first, and the segments that can be cut from it."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from mujoco_sail.core.state import Tree
from mujoco_sail.core.streams import Streams

COLUMNS = ("observation", "action", "next_observation", "terminated", "reward", "task_reward")


class Batch(NamedTuple):
    """Transitions, [M, B, ...]: views of the columns of rows."""

    observation: Tensor
    action: Tensor
    next_observation: Tensor
    terminated: Tensor
    reward: Tensor

    @classmethod
    def of(cls, rows: Tensor, observation_size: int, action_size: int) -> "Batch":
        """Splits rows, [M, B, W], into their columns."""
        observation, action, next_observation, terminated, reward, _ = torch.split(
            rows, _widths(observation_size, action_size), -1
        )
        return cls(
            observation, action, next_observation, terminated.squeeze(-1), reward.squeeze(-1)
        )


@dataclass(frozen=True)
class Segments:
    """Segments, [M, P, T, ...], padded at the end where an episode was shorter than T.

    Attributes:
        observation: [M, P, T, O].
        action: [M, P, T, A].
        task_reward: What the environment paid, [M, P, T]; 0 at padding. For the teacher only.
        valid: 1 at steps of the segment, 0 at padding, [M, P, T].
        start: Transitions that the member had stored before the segment's first step, [M, P].
    """

    observation: Tensor
    action: Tensor
    task_reward: Tensor
    valid: Tensor
    start: Tensor


class ReplayBuffer:
    """The newest N transitions of each member; all members write in lockstep.

    Args:
        members: M.
        capacity: N.
        observation_size: O.
        action_size: A.
        window: How many of the newest episodes segments are cut from.
        device: Where the data lie.
    """

    def __init__(
        self,
        members: int,
        capacity: int,
        observation_size: int,
        action_size: int,
        window: int,
        device: torch.device,
    ) -> None:
        self.capacity, self.device = capacity, device
        self.query_window = min(window, capacity)  # every episode has a transition
        # A transition is one row of one tensor, so drawing a batch is a single gather.
        self._widths = _widths(observation_size, action_size)
        self._transitions = torch.zeros(members * capacity, sum(self._widths), device=device)
        self.observation, self.action, self.next_observation, *scalars = (
            column.view(members, capacity, -1) for column in self._columns(self._transitions)
        )
        # `reward` is what the learner optimises, `task_reward` what the environment paid.
        self.terminated, self.reward, self.task_reward = (column.squeeze(-1) for column in scalars)
        self.written = 0
        self._held = torch.zeros((), device=device)  # len(self), on the device
        # Per member: where each of the newest episodes starts, as the number of transitions
        # written before it; the last entry is the start of the running episode.
        self.episode_starts: list[list[int]] = [[0] for _ in range(members)]
        self._rows = torch.arange(members, device=device).unsqueeze(1)

    @staticmethod
    def row_bytes(observation_size: int, action_size: int) -> int:
        """Memory of one transition."""
        return 4 * row_width(observation_size, action_size)

    def state(self) -> Tree:
        """See `core.state`: what was written, and where episodes start, padded with -1."""
        width = self.query_window + 1
        starts = [row + [-1] * (width - len(row)) for row in self.episode_starts]
        columns = {name: getattr(self, name)[:, : len(self)] for name in COLUMNS}
        return {**columns, "written": self.written, "starts": torch.tensor(starts)}

    def load(self, saved: Tree) -> None:
        """See `core.state`."""
        self.written = saved["written"]
        self._held.fill_(len(self))
        for name in COLUMNS:
            getattr(self, name)[:, : len(self)] = saved[name]
        self.episode_starts = [
            [start for start in row if start >= 0] for row in saved["starts"].tolist()
        ]

    def __len__(self) -> int:
        """Transitions held per member."""
        return min(self.written, self.capacity)

    def add(
        self,
        observation: Tensor,
        action: Tensor,
        reward: Tensor,
        task_reward: Tensor,
        next_observation: Tensor,
        terminated: Tensor,
        ended: np.ndarray,
    ) -> None:
        """Stores one transition of each member.

        Args:
            observation: [M, O].
            action: [M, A].
            reward: [M], what the learner optimises.
            task_reward: [M], what the environment paid.
            next_observation: [M, O], the true successor also where an episode ended.
            terminated: [M], 1 where nothing follows; 0 at a time limit.
            ended: [M], whether an episode ended, for whatever reason.
        """
        scalars = torch.stack([terminated, reward, task_reward], -1)
        row = torch.cat([observation, action, next_observation, scalars], -1)
        self._transitions.view(len(row), self.capacity, -1)[:, self.written % self.capacity] = row
        self.written += 1
        self._held.fill_(len(self))
        for member in np.flatnonzero(ended):
            starts = self.episode_starts[member]
            starts.append(self.written)
            # Keep the complete episodes of the query window and the running one.
            del starts[: -self.query_window - 1]

    def sample(self, uniform: Tensor) -> Tensor:
        """Draws transitions uniformly, as rows: see `Batch.of`.

        Args:
            uniform: Random numbers in [0, 1), [M, B].

        Returns:
            [M, B, W].
        """
        return self._gather(self.drawn(uniform))

    def sample_hybrid(self, uniform: Tensor, recent: Tensor, window: Tensor) -> Tensor:
        """Draws some transitions uniformly from the query window, the others as `sample` does.

        Args:
            uniform: Random numbers in [0, 1), [M, B].
            recent: Which come from the window, [M, B] of bool.
            window: Where it lies, see `window_ranges`.

        Returns:
            [M, B, W].
        """
        first, length = window
        steps = (uniform * length).long().clamp_max(length - 1)
        within = (first + steps) % self.capacity
        return self._gather(torch.where(recent, within, self.drawn(uniform)))

    def window_ranges(self) -> Tensor:
        """Place of the first transition of each member's query window, and how many it holds.

        Returns:
            Both as [2, M, 1]; the running episode belongs to the window.
        """
        oldest = [self._oldest(member) for member in range(len(self.episode_starts))]
        ranges = [[(at % self.capacity, self.written - at) for at in oldest]]
        return torch.tensor(ranges, device=self.device).permute(2, 1, 0)

    def _oldest(self, member: int) -> int:
        """Transitions written before the oldest one of a member's window that is still held."""
        return max(self.episode_starts[member][0], self.written - self.capacity)

    def drawn(self, uniform: Tensor) -> Tensor:
        """Where in the columns, [M, N, ...], the transitions of `sample` lie, [M, B]."""
        # The size is read on the device, so that a recorded update sees it grow.
        return (uniform * self._held).long().clamp_max_(self._held.long() - 1)

    def _gather(self, at: Tensor) -> Tensor:
        """The rows at some places, [M, B, W]."""
        rows = (self._rows * self.capacity + at).flatten()
        return self._transitions.index_select(0, rows).view(*at.shape, -1)

    def _columns(self, rows: Tensor) -> tuple[Tensor, ...]:
        """Splits rows into the fields that `COLUMNS` names."""
        return torch.split(rows, self._widths, -1)

    def newest_observations(self, size: int) -> Tensor:
        """The newest observations, oldest first, at most `size` of them, [M, B, O]."""
        at = torch.arange(self.written - min(size, len(self)), self.written, device=self.device)
        return self.observation[:, at % self.capacity]

    def window_segments(self, streams: Streams, count: int, steps: int) -> Segments:
        """Cuts segments uniformly from all places in the newest episodes where one fits.

        A complete episode shorter than a segment gives one padded segment; no segment
        crosses the end of an episode.

        Args:
            streams: Source of the places.
            count: P.
            steps: T.

        Raises:
            ValueError: A member has no place to cut from.
        """
        uniform = streams.uniform(count).cpu().numpy()
        pieces = [
            _cut(*self._places(member, steps), uniform[member], steps)
            for member in range(len(self.episode_starts))
        ]
        first = torch.as_tensor(np.stack([p[0] for p in pieces]), device=self.device)
        length = torch.as_tensor(np.stack([p[1] for p in pieces]), device=self.device)
        offset = torch.arange(steps, device=self.device)
        valid = offset < length.unsqueeze(-1)
        at = (first.unsqueeze(-1) + torch.where(valid, offset, 0)) % self.capacity
        rows = self._rows.unsqueeze(-1)
        mask = valid.to(self.reward.dtype)
        return Segments(
            self.observation[rows, at],
            self.action[rows, at],
            self.task_reward[rows, at] * mask,
            mask,
            first,
        )

    def window_task_rewards(self) -> list[Tensor]:
        """Task rewards in each member's window, the running episode's too; for the teacher only.

        Returns:
            M of [N], the oldest first.
        """
        rewards = []
        for member in range(len(self.episode_starts)):
            at = torch.arange(self._oldest(member), self.written, device=self.device)
            rewards.append(self.task_reward[member, at % self.capacity])
        return rewards

    def _places(self, member: int, steps: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Start, length and number of segment starts of each episode in the window."""
        starts = np.array(self.episode_starts[member])
        ends = np.append(starts[1:], self.written)
        # Of an episode whose start was overwritten, the rest is still in one piece.
        held = np.maximum(starts, self.written - self.capacity)
        length = ends - held
        complete = held == starts
        complete[-1] = False
        # What is not complete counts only where a segment fits.
        places = np.maximum(length - steps + 1, complete)
        if places.sum() == 0:
            raise ValueError(
                f"no episode of the query window holds a segment of {steps} steps; "
                "ask later (env.random_steps) or for less (env.segment_steps)"
            )
        return held, length, places


def row_width(observation_size: int, action_size: int) -> int:
    """W, the numbers of one transition."""
    return sum(_widths(observation_size, action_size))


def _widths(observation_size: int, action_size: int) -> list[int]:
    """Width of each of `COLUMNS`."""
    return [observation_size, action_size, observation_size, 1, 1, 1]


def _cut(
    starts: np.ndarray, length: np.ndarray, places: np.ndarray, uniform: np.ndarray, steps: int
) -> tuple[np.ndarray, np.ndarray]:
    """First step and valid length of the segments at given quantiles of all places."""
    last = np.cumsum(places)
    place = np.minimum((uniform * last[-1]).astype(np.int64), last[-1] - 1)
    episode = np.searchsorted(last, place, side="right")
    first = starts[episode] + place - (last - places)[episode]
    return first, np.minimum(length[episode], steps)
