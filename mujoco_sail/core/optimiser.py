"""Adam for a stack: each member has its own step count, and some can pause."""

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.autograd.graph import increment_version

from mujoco_sail.core.state import Tree

# Decay of both moments, and what keeps the quotient finite: the paper's values.
BETA_1, BETA_2, EPSILON = 0.9, 0.999, 1e-8


class MemberAdam:
    """Adam (Kingma and Ba 2015) on tensors with a leading member axis.

    PyTorch's fused kernel gets every member's slice as a parameter of its own.

    Args:
        parameters: Each [M, ...].
        learning_rate: Step size.

    Attributes:
        steps: Steps that each member has taken, [M].
        means: Running mean of every parameter's gradient.
        squares: Running mean of its square.
    """

    def __init__(self, parameters: Sequence[Tensor], learning_rate: float) -> None:
        self.learning_rate = learning_rate
        self.steps = torch.zeros(len(parameters[0]), device=parameters[0].device)
        self.means = [torch.zeros_like(p, requires_grad=False) for p in parameters]
        self.squares = [torch.zeros_like(p, requires_grad=False) for p in parameters]
        self._parameters = list(parameters)
        state = [p.detach() for p in parameters], self.means, self.squares
        self._slices = [_slices(tensors) for tensors in (*state, [self.steps] * len(parameters))]

    def state(self) -> Tree:
        """See `core.state`."""
        moments = {"means": self.means, "squares": self.squares}
        return {"steps": self.steps} | {
            name: {str(i): values for i, values in enumerate(tensors)}
            for name, tensors in moments.items()
        }

    def load(self, saved: Tree) -> None:
        """See `core.state`."""
        self.steps.copy_(saved["steps"])
        for tensors, values in ((self.means, saved["means"]), (self.squares, saved["squares"])):
            for i, tensor in enumerate(tensors):
                tensor.copy_(values[str(i)])

    def step(self, gradients: Sequence[Tensor], active: Sequence[bool] | None = None) -> None:
        """Takes a step of gradient descent.

        Args:
            gradients: One per parameter, of the same shapes.
            active: Which of the M members take the step; all by default.
        """
        lists = [_slices([g.contiguous() for g in gradients]), *self._slices]
        if active is None:
            self.steps += 1
        else:
            self.steps += torch.tensor(active, device=self.steps.device)
            moves = list(active) * len(gradients)
            lists = [list(itertools.compress(pieces, moves)) for pieces in lists]
        gradient, parameter, mean, square, steps = lists
        torch._fused_adam_(
            parameter,
            gradient,
            mean,
            square,
            [],
            steps,
            lr=self.learning_rate,
            beta1=BETA_1,
            beta2=BETA_2,
            weight_decay=0.0,
            eps=EPSILON,
            amsgrad=False,
            maximize=False,
        )
        # The kernel does not raise the version counters itself.
        increment_version(self._parameters)


def _slices(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Every member's part of every tensor."""
    return [piece for tensor in tensors for piece in tensor.unbind(0)]
