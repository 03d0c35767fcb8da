"""Adam over a stack: each member keeps its own step count and can rest."""

from collections.abc import Sequence

import torch
from torch import Tensor

from mujoco_sail.core.state import Tree


class MemberAdam:
    """Adam (Kingma and Ba 2015) on tensors with a leading member axis.

    The library's optimiser sees every member's slice as a parameter of its own; a member
    without a gradient is skipped by it, moments and step count included.

    Args:
        parameters: Each [M, ...].
        learning_rate: Step size.
    """

    def __init__(self, parameters: Sequence[Tensor], learning_rate: float) -> None:
        self.slices = [list(p.detach().unbind(0)) for p in parameters]
        self.adam = torch.optim.Adam(
            [piece for pieces in self.slices for piece in pieces], lr=learning_rate, fused=True
        )

    def step(self, gradients: Sequence[Tensor], active: Sequence[bool] | None = None) -> None:
        """Descends.

        Args:
            gradients: One per parameter, same shapes.
            active: Which of the M members move; all by default.
        """
        for pieces, gradient in zip(self.slices, gradients, strict=True):
            for member, (piece, part) in enumerate(zip(pieces, gradient.unbind(0), strict=True)):
                piece.grad = part.contiguous() if active is None or active[member] else None
        self.adam.step()

    def state(self) -> Tree:
        """See `core.state`; a member that never moved has zeros, as the library starts."""

        def part(piece: Tensor, name: str) -> Tensor:
            values = self.adam.state.get(piece)
            return values[name] if values else torch.zeros_like(piece)

        return {
            str(i): {
                name: torch.stack([part(piece, name) for piece in pieces])
                for name in ("exp_avg", "exp_avg_sq")
            }
            | {"step": torch.stack([self._steps(piece) for piece in pieces])}
            for i, pieces in enumerate(self.slices)
        }

    def load(self, saved: Tree) -> None:
        """See `core.state`."""
        for i, pieces in enumerate(self.slices):
            for member, piece in enumerate(pieces):
                self.adam.state[piece] = {
                    name: values[member].clone() for name, values in saved[str(i)].items()
                }

    def _steps(self, piece: Tensor) -> Tensor:
        values = self.adam.state.get(piece)
        return values["step"] if values else torch.zeros(())
