"""Recorder of an update's gradients, and central differences."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor

from mujoco_sail.core.optimiser import Trained
from mujoco_sail.core.update import SACState

# So small that no unit of a network changes between active and inactive.
STEP = 1e-7


class Recorder:
    """Replacement of Adam that records the gradients and changes no parameter."""

    def __init__(self, state: SACState) -> None:
        self.state = state
        self.gradients: dict[str, list[Tensor]] = {}

    def __call__(self, trained: Trained, gradients: Sequence[Tensor], rate: float) -> None:
        for name, one in self.state._asdict().items():
            # Compared by address, because slices of the stack are views.
            pointer = trained.parameters[0].data_ptr()
            if isinstance(one, Trained) and one.parameters[0].data_ptr() == pointer:
                self.gradients[name] = [gradient.clone() for gradient in gradients]


def assert_is_derivative(
    gradients: Sequence[Tensor], parameters: Sequence[Tensor], objective: Callable[[], Tensor]
) -> None:
    """Checks gradients by central differences along random directions."""
    generator = torch.Generator().manual_seed(1)
    for _ in range(3):
        directions = [torch.randn(p.shape, generator=generator) for p in parameters]
        stated = sum(float((g * d).sum()) for g, d in zip(gradients, directions, strict=True))
        values = []
        for sign in (1, -1):
            with torch.no_grad():
                for p, d in zip(parameters, directions, strict=True):
                    p.add_(d, alpha=sign * STEP)
                values.append(float(objective()))
                for p, d in zip(parameters, directions, strict=True):
                    p.add_(d, alpha=-sign * STEP)
        measured = (values[0] - values[1]) / (2 * STEP)
        assert measured == pytest.approx(stated, rel=1e-5, abs=1e-8)
