"""Pairs of segments, which the teacher compares, and random crops of them."""

from collections.abc import Callable
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from mujoco_sail.core.replay_buffer import ReplayBuffer, Segments
from mujoco_sail.core.streams import Streams


@dataclass(frozen=True)
class Pairs:
    """Pairs of segments; axis 2 is the side, first or second.

    Attributes:
        inputs: Observations and actions, [M, P, 2, T, O + A].
        valid: 1 at steps of a segment, 0 at padding, [M, P, 2, T].
        task_reward: Rewards of the environment, [M, P, 2, T]; for the teacher only.
        start: Index of each segment's first transition among all that the member stored,
            [M, P, 2].
    """

    inputs: Tensor
    valid: Tensor
    task_reward: Tensor
    start: Tensor

    @classmethod
    def of(cls, first: Segments, second: Segments) -> "Pairs":
        """Combines first and second segments into pairs."""
        both = [
            torch.stack([getattr(first, name), getattr(second, name)], dim=2)
            for name in ("observation", "action", "valid", "task_reward", "start")
        ]
        return cls(torch.cat(both[:2], -1), *both[2:])

    @classmethod
    def drawn(
        cls, replay_buffer: ReplayBuffer, streams: Streams, count: int, steps: int
    ) -> "Pairs":
        """Samples `count` pairs of segments of `steps` steps uniformly from the query window."""
        first = replay_buffer.window_segments(streams, count, steps)
        return cls.of(first, replay_buffer.window_segments(streams, count, steps))

    @classmethod
    def none(cls, members: int, steps: int, size: int, device: torch.device) -> "Pairs":
        """Empty set of pairs of segments of `steps` steps; `size` is O + A."""
        empty = torch.zeros(members, 0, 2, steps, device=device)
        inputs = empty.unsqueeze(-1).expand(-1, -1, -1, -1, size)
        return cls(inputs, empty, empty, empty[..., 0].long())

    @classmethod
    def joined(cls, parts: "list[Pairs]") -> "Pairs":
        """Concatenates pairs along P."""
        columns = ([getattr(part, f.name) for part in parts] for f in fields(cls))
        return cls(*(torch.cat(column, 1) for column in columns))

    def take(self, index: Tensor) -> "Pairs":
        """Selects pairs by each member's indices, [M, P']."""
        rows = torch.arange(len(index), device=index.device).unsqueeze(1)
        return self._each(lambda column: column[rows, index])

    def part(self, at: slice) -> "Pairs":
        """Slices the pairs of every member along P."""
        return self._each(lambda column: column[:, at])

    def paired_anew(self, segments: Tensor) -> "Pairs":
        """Pairs of the same segments, by their indices in order of pair and side, [M, P', 2]."""
        rows = torch.arange(len(segments), device=segments.device).view(-1, 1, 1)
        return self._each(lambda column: column.flatten(1, 2)[rows, segments])

    def member(self, m: int) -> "Pairs":
        """Pairs of one member, [1, P, ...]."""
        return self._each(lambda column: column[m : m + 1])

    def _each(self, change: Callable[[Tensor], Tensor]) -> "Pairs":
        return Pairs(*(change(getattr(self, f.name)) for f in fields(self)))

    def side(self, index: int) -> tuple[Tensor, Tensor]:
        """Task rewards and validity of one side, each [M, P, T]."""
        return self.task_reward[:, :, index], self.valid[:, :, index]

    def returns(self) -> Tensor:
        """Task return of both segments, [M, P, 2]."""
        return self.task_reward.sum(-1)

    def margin(self) -> Tensor:
        """Task return of the first segment minus that of the second, [M, P]."""
        returns = self.returns()
        return returns[..., 0] - returns[..., 1]

    def true_labels(self) -> Tensor:
        """Labels of the perfect teacher, [M, P]."""
        return 0.5 * (1 + self.margin().sign())


def crops(valid: Tensor, shortest: Tensor, longest: Tensor, streams: Streams) -> Tensor:
    """Crops both segments of every pair to a common random length, at independent positions.

    Lengths in steps are uniform from the shortest to the longest, both included; positions are
    uniform over all where the crop fits. A segment shorter than its crop is not cropped.

    Args:
        valid: 1 at steps of a segment, 0 at the padding that follows, [M, ..., 2, T].
        shortest: Length of the shortest crop as a fraction of T, [M].
        longest: Length of the longest crop as a fraction of T, at least `shortest`, [M].
        streams: Random streams of lengths and positions.

    Returns:
        1 at steps of the crops, 0 elsewhere, [M, ..., 2, T].
    """
    steps, pairs = valid.shape[-1], valid.shape[1:-2]
    low, high = (
        (share * steps).round().clamp_min(1).view(-1, *[1] * (len(pairs) + 1))
        for share in (shortest, longest)
    )
    of_length, of_place = torch.split(streams.uniform(*pairs, 3), [1, 2], -1)
    length = torch.minimum(low + (of_length * (high - low + 1)).floor(), high)  # [M, ..., 1]
    room = (valid.sum(-1) - length).clamp_min(0)  # [M, ..., 2]
    first = torch.minimum((of_place * (room + 1)).floor(), room)
    at = torch.arange(steps, device=valid.device)
    first, length = first.unsqueeze(-1), length.unsqueeze(-1)
    return valid * ((first <= at) & (at < first + length))
