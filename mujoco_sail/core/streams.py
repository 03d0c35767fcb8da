"""Random streams: explicit generators, one per member and purpose."""

import zlib
from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from mujoco_sail.core.state import Tree

# Draws made at once on CUDA, where one launch per member and draw would dominate the update's time.
AHEAD = 32


def seed_for(seed: int, purpose: str, index: int = 0) -> int:
    """63-bit seed that depends only on a member's seed, a purpose and an index."""
    words = np.random.SeedSequence([seed, zlib.crc32(purpose.encode()), index])
    return int(words.generate_state(1, np.uint64)[0] >> np.uint64(1))


class Streams:
    """Random streams with one generator per member, so that members are independent.

    Args:
        seeds: Seeds of the M members.
        purpose: Name of what is drawn; streams of different purposes are independent.
        device: Device of the draws.
        index: Index of the stream, for purposes that have several (one per session, for example).
    """

    def __init__(
        self, seeds: Sequence[int], purpose: str, device: torch.device, index: int = 0
    ) -> None:
        self.generators = [
            torch.Generator(device).manual_seed(seed_for(seed, purpose, index)) for seed in seeds
        ]
        self.device = device

    def state(self) -> Tree:
        """State for a checkpoint, see `core.state`."""
        return {"generators": torch.stack([g.get_state() for g in self.generators])}

    def load(self, saved: Tree) -> None:
        """Restores the state that `state` returned."""
        for generator, state in zip(self.generators, saved["generators"], strict=True):
            generator.set_state(state.clone())  # a view of a larger tensor is refused

    def normal(self, *shape: int) -> Tensor:
        """Standard normal draws, [M, *shape]."""
        draws = self._empty(shape, torch.get_default_dtype())
        for row, generator in zip(draws, self.generators, strict=True):
            row.normal_(generator=generator)
        return draws

    def uniform(self, *shape: int) -> Tensor:
        """Draws from [0, 1), [M, *shape]."""
        draws = self._empty(shape, torch.get_default_dtype())
        for row, generator in zip(draws, self.generators, strict=True):
            row.uniform_(generator=generator)
        return draws

    def integers(self, high: int, *shape: int) -> Tensor:
        """Draws from {0, ..., high - 1}, [M, *shape]."""
        draws = self._empty(shape, torch.int64)
        for row, generator in zip(draws, self.generators, strict=True):
            row.random_(high, generator=generator)
        return draws

    def _empty(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        return torch.empty(len(self.generators), *shape, dtype=dtype, device=self.device)


class Draws:
    """Repeated draws of one shape per member; on CUDA several are made in advance.

    Args:
        streams: Random streams; nothing else may draw from them after the first draw.
        kind: Distribution.
        shape: Shape of a member's draw.
    """

    def __init__(
        self, streams: Streams, kind: Literal["uniform", "normal"], shape: Sequence[int]
    ) -> None:
        self.streams, self.kind, self.shape = streams, kind, tuple(shape)
        self.ahead = AHEAD if streams.device.type == "cuda" else 1
        self._made: list[Tensor] = []  # draws made but not yet returned, the next one last
        self._before: Tree = {}  # the streams' state before these draws

    def state(self) -> Tree:
        """State for a checkpoint, see `core.state`."""
        if self._made:
            return {**self._before, "used": self.ahead - len(self._made)}
        return {**self.streams.state(), "used": 0}

    def load(self, saved: Tree) -> None:
        """Restores the state that `state` returned."""
        self.streams.load(saved)
        self._made = []
        for _ in range(saved["used"]):
            self.next()

    def next(self) -> Tensor:
        """Next draw, [M, *shape]."""
        if not self._made:
            if self.ahead > 1:
                self._before = self.streams.state()
            made = getattr(self.streams, self.kind)(self.ahead, *self.shape)
            self._made = list(made.unbind(1))[::-1]
        return self._made.pop()
