"""Replay buffer with a leading member axis, and segments sampled from it."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from mujoco_sail.core.state import Tree
from mujoco_sail.core.streams import Streams

COLUMNS = ("observation", "action", "next_observation", "terminated", "reward", "task_reward")


class Batch(NamedTuple):
    """Batch of transitions, [M, B, ...], as views of rows [M, B, W]."""

    observation: Tensor
    action: Tensor
    next_observation: Tensor
    terminated: Tensor
    reward: Tensor

    @classmethod
    def of(cls, rows: Tensor, observation_size: int, action_size: int) -> "Batch":
        """Splits rows, [M, B, W], into the fields of a batch."""
        observation, action, next_observation, terminated, reward, _ = torch.split(
            rows, _widths(observation_size, action_size), -1
        )
        return cls(
            observation, action, next_observation, terminated.squeeze(-1), reward.squeeze(-1)
        )


@dataclass(frozen=True)
class Segments:
    """Trajectory segments, [M, P, T, ...], padded at the end if an episode is shorter than T.

    Attributes:
        observation: Observations, [M, P, T, O].
        action: Actions, [M, P, T, A].
        task_reward: Rewards of the environment, [M, P, T]; 0 at padding. For the teacher only.
        valid: 1 at steps of the segment, 0 at padding, [M, P, T].
        start: Index of the segment's first transition among all that the member stored, [M, P].
    """

    observation: Tensor
    action: Tensor
    task_reward: Tensor
    valid: Tensor
    start: Tensor


class ReplayBuffer:
    """Replay buffer of the newest N transitions of each member; all members write in lockstep.

    Args:
        members: M.
        capacity: N.
        observation_size: O.
        action_size: A.
        window: Query window: number of newest episodes that segments are sampled from.
        device: Device of the data.
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
        # A transition is one row of one tensor, so that a batch is a single gather.
        self._widths = _widths(observation_size, action_size)
        self._transitions = torch.zeros(members * capacity, sum(self._widths), device=device)
        self.observation, self.action, self.next_observation, *scalars = (
            column.view(members, capacity, -1) for column in self._columns(self._transitions)
        )
        # `reward` is the reward that the agent optimises, `task_reward` that of the environment.
        self.terminated, self.reward, self.task_reward = (column.squeeze(-1) for column in scalars)
        self.written = 0
        self._held = torch.zeros((), device=device)  # len(self), on the device
        # Per member: start of each of the newest episodes, as the number of transitions written
        # before it; the last entry is the start of the running episode.
        self.episode_starts: list[list[int]] = [[0] for _ in range(members)]
        self._rows = torch.arange(members, device=device).unsqueeze(1)

    @staticmethod
    def row_bytes(observation_size: int, action_size: int) -> int:
        """Size of one transition in bytes."""
        return 4 * row_width(observation_size, action_size)

    def state(self) -> Tree:
        """State for a checkpoint, see `core.state`; the starts of episodes are padded with -1."""
        width = self.query_window + 1
        starts = [row + [-1] * (width - len(row)) for row in self.episode_starts]
        columns = {name: getattr(self, name)[:, : len(self)] for name in COLUMNS}
        return {**columns, "written": self.written, "starts": torch.tensor(starts)}

    def load(self, saved: Tree) -> None:
        """Restores the state that `state` returned."""
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
            observation: Observations, [M, O].
            action: Actions, [M, A].
            reward: Rewards that the agent optimises, [M].
            task_reward: Rewards of the environment, [M].
            next_observation: Next observations, [M, O]; at the end of an episode its final one.
            terminated: 1 at a terminal state, 0 otherwise, also at a time limit, [M].
            ended: Whether an episode ended, by termination or at a time limit, [M].
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
        """Samples transitions uniformly.

        Args:
            uniform: Random numbers in [0, 1), [M, B].

        Returns:
            Rows, [M, B, W], see `Batch.of`.
        """
        return self._gather(self.drawn(uniform))

    def sample_hybrid(self, uniform: Tensor, recent: Tensor, window: Tensor) -> Tensor:
        """Samples transitions uniformly, some from the query window, the others from the buffer.

        Args:
            uniform: Random numbers in [0, 1), [M, B].
            recent: Which transitions come from the window, [M, B] of bool.
            window: Position and size of the window, see `window_ranges`.

        Returns:
            Rows, [M, B, W], see `Batch.of`.
        """
        first, length = window
        steps = (uniform * length).long().clamp_max(length - 1)
        within = (first + steps) % self.capacity
        return self._gather(torch.where(recent, within, self.drawn(uniform)))

    def window_ranges(self) -> Tensor:
        """Position and size of each member's query window, with the running episode.

        Returns:
            Index of the first transition and number of transitions, [2, M, 1].
        """
        oldest = [self._oldest(member) for member in range(len(self.episode_starts))]
        ranges = [[(at % self.capacity, self.written - at) for at in oldest]]
        return torch.tensor(ranges, device=self.device).permute(2, 1, 0)

    def _oldest(self, member: int) -> int:
        """Number of transitions written before the oldest one in a member's query window."""
        return max(self.episode_starts[member][0], self.written - self.capacity)

    def drawn(self, uniform: Tensor) -> Tensor:
        """Indices along N of the transitions that `sample` draws, [M, B]."""
        # The size is read on the device, because a recorded update must see its current value.
        return (uniform * self._held).long().clamp_max_(self._held.long() - 1)

    def _gather(self, at: Tensor) -> Tensor:
        """Rows at indices [M, B], as [M, B, W]."""
        rows = (self._rows * self.capacity + at).flatten()
        return self._transitions.index_select(0, rows).view(*at.shape, -1)

    def _columns(self, rows: Tensor) -> tuple[Tensor, ...]:
        """Splits rows into the fields that `COLUMNS` names."""
        return torch.split(rows, self._widths, -1)

    def newest_observations(self, size: int) -> Tensor:
        """The newest observations, at most `size`, oldest first, [M, B, O]."""
        at = torch.arange(self.written - min(size, len(self)), self.written, device=self.device)
        return self.observation[:, at % self.capacity]

    def window_segments(self, streams: Streams, count: int, steps: int) -> Segments:
        """Samples segments uniformly from all positions in the query window.

        A complete episode shorter than a segment gives one padded segment. No segment crosses the
        end of an episode.

        Args:
            streams: Random streams of the positions.
            count: P, number of segments per member.
            steps: T, steps of a segment.

        Raises:
            ValueError: No episode in a member's query window holds a segment.
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
        """Task rewards in each member's query window, with the running episode.

        For the teacher only.

        Returns:
            One tensor per member, as long as its window, oldest first.
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
        # If the start of an episode was overwritten, the rest is still contiguous.
        held = np.maximum(starts, self.written - self.capacity)
        length = ends - held
        complete = held == starts
        complete[-1] = False
        # An incomplete episode counts only if a segment fits.
        places = np.maximum(length - steps + 1, complete)
        if places.sum() == 0:
            raise ValueError(
                f"no episode of the query window holds a segment of {steps} steps; "
                "ask later (env.random_steps) or for less (env.segment_steps)"
            )
        return held, length, places


def row_width(observation_size: int, action_size: int) -> int:
    """W, the number of elements of one transition."""
    return sum(_widths(observation_size, action_size))


def _widths(observation_size: int, action_size: int) -> list[int]:
    """Width of each of `COLUMNS`."""
    return [observation_size, action_size, observation_size, 1, 1, 1]


def _cut(
    starts: np.ndarray, length: np.ndarray, places: np.ndarray, uniform: np.ndarray, steps: int
) -> tuple[np.ndarray, np.ndarray]:
    """First step and valid length of the segments at given quantiles of all positions."""
    last = np.cumsum(places)
    place = np.minimum((uniform * last[-1]).astype(np.int64), last[-1] - 1)
    episode = np.searchsorted(last, place, side="right")
    first = starts[episode] + place - (last - places)[episode]
    return first, np.minimum(length[episode], steps)
