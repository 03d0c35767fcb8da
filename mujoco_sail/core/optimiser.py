"""Adam for a stack, with a step count per member; members can skip a step. A projection."""

import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor
from torch.autograd.graph import increment_version
from torch.nn.utils import get_total_norm

from mujoco_sail.core.state import Tree

# Decay rates of the two moments, and the constant that keeps the quotient finite, as in the paper.
BETA_1, BETA_2, EPSILON = 0.9, 0.999, 1e-8


class Trained(NamedTuple):
    """Parameters of m members with Adam's moments and step counts.

    Attributes:
        parameters: Each [m G, ...], G networks per member.
        means: First moments: running mean of every parameter's gradient.
        squares: Second moments: running mean of the squared gradient.
        steps: Steps that each member has taken, [m].
    """

    parameters: Sequence[Tensor]
    means: Sequence[Tensor]
    squares: Sequence[Tensor]
    steps: Tensor

    def part(self, members: slice) -> "Trained":
        """Views of a slice of the members."""
        count = len(self.steps)
        return Trained(
            part(self.parameters, members, count),
            part(self.means, members, count),
            part(self.squares, members, count),
            self.steps[members],
        )


class MemberAdam:
    """Adam optimiser of one stack.

    Args:
        parameters: Each [M G, ...], such as `StackedMLP.layers`.
        members: M.
        learning_rate: Step size.

    Attributes:
        trained: The parameters with their moments and step counts.
    """

    def __init__(self, parameters: Sequence[Tensor], members: int, learning_rate: float) -> None:
        self.members, self.learning_rate = members, learning_rate
        self.trained = Trained(
            parameters,
            [torch.zeros_like(p) for p in parameters],
            [torch.zeros_like(p) for p in parameters],
            torch.zeros(members, device=parameters[0].device),
        )

    @classmethod
    def of_one(cls, parameters: Iterable[Tensor], learning_rate: float) -> "MemberAdam":
        """Optimiser of the parameters of a single network; gradients have their shapes."""
        return cls([p.detach().unsqueeze(0) for p in parameters], 1, learning_rate)

    def step(self, gradients: Sequence[Tensor], active: Sequence[bool] | None = None) -> None:
        """Takes a step, see `adam_step`; gradients are [M G, ...] or [M, G, ...]."""
        flat = [g.view(p.shape) for g, p in zip(gradients, self.trained.parameters, strict=True)]
        adam_step(self.trained, flat, self.learning_rate, active)

    @property
    def moments(self) -> list[Tensor]:
        """Moments and step counts."""
        return [*self.trained.means, *self.trained.squares, self.trained.steps]

    def reset(self) -> None:
        """Sets moments and step counts to zero."""
        for tensor in self.moments:
            tensor.zero_()

    def state(self) -> Tree:
        """State for a checkpoint, see `core.state`."""
        moments = {"means": self.trained.means, "squares": self.trained.squares}
        return {"steps": self.trained.steps} | {
            name: {str(i): by_member(t, self.members) for i, t in enumerate(tensors)}
            for name, tensors in moments.items()
        }

    def load(self, saved: Tree) -> None:
        """Restores the state that `state` returned."""
        self.trained.steps.copy_(saved["steps"])
        for tensors, values in (
            (self.trained.means, saved["means"]),
            (self.trained.squares, saved["squares"]),
        ):
            for i, tensor in enumerate(tensors):
                tensor.copy_(values[str(i)].view(tensor.shape))


def part(tensors: Sequence[Tensor], members: slice, of: int) -> list[Tensor]:
    """Views of a slice of `of` members in tensors [M G, ...]."""
    return [by_member(t, of)[members].flatten(0, 1) for t in tensors]


def by_member(tensor: Tensor, members: int) -> Tensor:
    """View of a tensor [M G, ...] as [M, G, ...]."""
    return tensor.view(members, -1, *tensor.shape[1:])


@contextmanager
def unchanged(tensors: Sequence[Tensor], members: Tensor) -> Iterator[None]:
    """Context after which some members have the values that they had before.

    Args:
        tensors: Tensors [M G, ...] that the context changes in place.
        members: Which members keep their values, [M] of bool.
    """
    before = [tensor.detach().clone() for tensor in tensors]
    yield
    for tensor, old in zip(tensors, before, strict=True):
        kept = by_member(old, len(members))[members]
        by_member(tensor.detach(), len(members))[members] = kept


@torch.no_grad()
def project(parameters: Sequence[Tensor], centre: Sequence[Tensor], radius: float) -> None:
    """Projects parameters, in place, onto the L2 ball of a radius around the centre."""
    moves = [p - c for p, c in zip(parameters, centre, strict=True)]
    shrink = radius / get_total_norm(moves)
    if shrink < 1:
        for parameter, start, move in zip(parameters, centre, moves, strict=True):
            parameter.copy_(start + shrink * move)


def member_sums(layers: Sequence[Tensor]) -> Tensor:
    """Sum of all elements of each member, [m], over layers of one network per member, [m, ...]."""
    # Two sums: the result of one large sum would depend on the number of threads.
    return torch.stack([layer.sum(-1).sum(1) for layer in layers]).sum(0)


def adam_step(
    trained: Trained,
    gradients: Sequence[Tensor],
    learning_rate: float | Tensor,
    active: Sequence[bool] | None = None,
) -> None:
    """Takes a step of Adam (Kingma and Ba 2015, Algorithm 1), in place.

    Args:
        trained: Parameters, moments and step counts to update.
        gradients: One per parameter, of the same shapes.
        learning_rate: Step size.
        active: Which of the m members take the step; all by default.
    """
    if torch.compiler.is_compiling():
        _for_compiler(trained, gradients, learning_rate)
    else:
        _fused(trained, gradients, learning_rate, active)


def _for_compiler(
    trained: Trained, gradients: Sequence[Tensor], learning_rate: float | Tensor
) -> None:
    """Adam in PyTorch operations, for the compiler, which cannot fuse the library's kernel."""
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
    learning_rate: float | Tensor,
    active: Sequence[bool] | None,
) -> None:
    """PyTorch's fused Adam kernel, called with every network's slice as a parameter."""
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
    # The kernel does not increment the version counters of autograd itself.
    increment_version(trained.parameters)
