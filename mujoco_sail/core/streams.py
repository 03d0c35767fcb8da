"""Random streams: explicit generators only, one per member and purpose."""

import zlib
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from mujoco_sail.core.state import Tree


def seed_for(seed: int, purpose: str, index: int = 0) -> int:
    """A 63-bit seed that depends on nothing but a member's seed, a purpose and an index."""
    words = np.random.SeedSequence([seed, zlib.crc32(purpose.encode()), index])
    return int(words.generate_state(1, np.uint64)[0] >> np.uint64(1))


class Streams:
    """One generator per member, so that no member's draws depend on its neighbours.

    Args:
        seeds: Seeds of the M members.
        purpose: What is drawn; streams of different purposes are independent.
        device: Where the draws are made.
        index: Number of the stream, for purposes that start afresh (a session, say).
    """

    def __init__(
        self, seeds: Sequence[int], purpose: str, device: torch.device, index: int = 0
    ) -> None:
        self.generators = [
            torch.Generator(device).manual_seed(seed_for(seed, purpose, index)) for seed in seeds
        ]
        self.device = device

    def state(self) -> Tree:
        """See `core.state`."""
        return {"generators": torch.stack([g.get_state() for g in self.generators])}

    def load(self, saved: Tree) -> None:
        """See `core.state`."""
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
