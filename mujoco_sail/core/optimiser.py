"""Adam for a stack: each member has its own step count, and some can pause."""

import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.autograd.graph import increment_version

from mujoco_sail.core.state import Tree

# Decay of both moments, and what keeps the quotient finite: the paper's values.
BETA_1, BETA_2, EPSILON = 0.9, 0.999, 1e-8


class Trained(NamedTuple):
    """Parameters of m members and where Adam stands with them.

    Attributes:
        parameters: Each [m G, ...], G networks a member.
        means: Running mean of every parameter's gradient.
        squares: Running mean of its square.
        steps: That each member has taken, [m].
    """

    parameters: Sequence[Tensor]
    means: Sequence[Tensor]
    squares: Sequence[Tensor]
    steps: Tensor

    def part(self, members: slice) -> "Trained":
        """Views of some members."""
        count = len(self.steps)
        return Trained(
            part(self.parameters, members, count),
            part(self.means, members, count),
            part(self.squares, members, count),
            self.steps[members],
        )


class MemberAdam:
    """The optimiser of one stack, which holds its moments.

    Args:
        parameters: Each [M G, ...], such as `StackedMLP.layers`.
        members: M.
        learning_rate: Step size.

    Attributes:
        trained: The parameters and where Adam stands with them.
    """

    def __init__(self, parameters: Sequence[Tensor], members: int, learning_rate: float) -> None:
        self.members, self.learning_rate = members, learning_rate
        self.trained = Trained(
            parameters,
            [torch.zeros_like(p) for p in parameters],
            [torch.zeros_like(p) for p in parameters],
            torch.zeros(members, device=parameters[0].device),
        )

    def step(self, gradients: Sequence[Tensor], active: Sequence[bool] | None = None) -> None:
        """See `adam_step`; gradients [M G, ...] or [M, G, ...]."""
        flat = [g.view(p.shape) for g, p in zip(gradients, self.trained.parameters, strict=True)]
        adam_step(self.trained, flat, self.learning_rate, active)

    def reset(self) -> None:
        """Begins anew."""
        for tensor in (*self.trained.means, *self.trained.squares, self.trained.steps):
            tensor.zero_()

    def state(self) -> Tree:
        """See `core.state`."""
        moments = {"means": self.trained.means, "squares": self.trained.squares}
        return {"steps": self.trained.steps} | {
            name: {str(i): by_member(t, self.members) for i, t in enumerate(tensors)}
            for name, tensors in moments.items()
        }

    def load(self, saved: Tree) -> None:
        """See `core.state`."""
        self.trained.steps.copy_(saved["steps"])
        for tensors, values in (
            (self.trained.means, saved["means"]),
            (self.trained.squares, saved["squares"]),
        ):
            for i, tensor in enumerate(tensors):
                tensor.copy_(values[str(i)].view(tensor.shape))


def part(tensors: Sequence[Tensor], members: slice, of: int) -> list[Tensor]:
    """Views of some of M members in tensors [M G, ...]."""
    return [by_member(t, of)[members].flatten(0, 1) for t in tensors]


def by_member(tensor: Tensor, members: int) -> Tensor:
    """[M, G, ...] from [M G, ...]."""
    return tensor.view(members, -1, *tensor.shape[1:])


def member_sums(layers: Sequence[Tensor]) -> Tensor:
    """Sum of all numbers of each member, [m], in layers of one network each, [m, ...]."""
    # In two steps: the sum of very many numbers to one depends on the number of threads.
    return torch.stack([layer.sum(-1).sum(1) for layer in layers]).sum(0)


def adam_step(
    trained: Trained,
    gradients: Sequence[Tensor],
    learning_rate: float,
    active: Sequence[bool] | None = None,
) -> None:
    """A step of gradient descent by Adam (Kingma and Ba 2015, Algorithm 1), in place.

    Args:
        trained: What moves.
        gradients: One per parameter, of the same shapes.
        learning_rate: Step size.
        active: Which of the m members take the step; all by default.
    """
    if torch.compiler.is_compiling():
        _written_out(trained, gradients, learning_rate)
    else:
        _fused(trained, gradients, learning_rate, active)


def _written_out(trained: Trained, gradients: Sequence[Tensor], learning_rate: float) -> None:
    """For the compiler, which cannot see into the library's kernel."""
    trained.steps.add_(1)
    corrections = [-torch.expm1(trained.steps * math.log(beta)) for beta in (BETA_1, BETA_2)]
    for p, g, mean, square in zip(
        trained.parameters, gradients, trained.means, trained.squares, strict=True
    ):
        networks = len(p) // len(trained.steps)
        of_mean, of_square = (
            c.repeat_interleave(networks).view(-1, *[1] * (p.dim() - 1)) for c in corrections
        )
        mean.mul_(BETA_1).add_(g * (1 - BETA_1))
        square.mul_(BETA_2).add_(g * g * (1 - BETA_2))
        p.sub_(learning_rate * (mean / of_mean) / ((square / of_square).sqrt() + EPSILON))


def _fused(
    trained: Trained,
    gradients: Sequence[Tensor],
    learning_rate: float,
    active: Sequence[bool] | None,
) -> None:
    """The library's kernel, which gets every network's slice as a parameter of its own."""
    members = len(trained.steps)
    if active is None:
        active = [True] * members
        trained.steps.add_(1)
    else:
        trained.steps.add_(torch.tensor(active, device=trained.steps.device))

    def slices(tensors: Sequence[Tensor]) -> list[Tensor]:
        return [
            network
            for t in tensors
            for network, moves in zip(
                t.unbind(),
                itertools.chain(*([a] * (len(t) // members) for a in active)),
                strict=True,
            )
            if moves
        ]

    steps = [trained.steps.repeat_interleave(len(p) // members) for p in trained.parameters]
    torch._fused_adam_(
        slices(trained.parameters),
        slices([g.contiguous() for g in gradients]),
        slices(trained.means),
        slices(trained.squares),
        [],
        slices(steps),
        lr=learning_rate,
        beta1=BETA_1,
        beta2=BETA_2,
        weight_decay=0.0,
        eps=EPSILON,
        amsgrad=False,
        maximize=False,
    )
    # The kernel does not raise the version counters itself.
    increment_version(trained.parameters)
