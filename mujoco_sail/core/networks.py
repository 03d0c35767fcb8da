"""Stacked multilayer perceptrons: the networks of many members as one batched product."""

import copy
import itertools
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from mujoco_sail.core.optimiser import by_member, part
from mujoco_sail.core.passes import (
    Activation,
    Parameters,
    Precision,
    cache_parts,
    forward,
    input_gradient,
    parameter_gradients,
    rounded,
)
from mujoco_sail.core.state import Tree
from mujoco_sail.core.streams import Streams

# Every network's parameters are padded to a multiple of this many elements, so that all have the
# same alignment to cache lines: the last bits of a product can depend on it.
ALIGNED = 16


class StackedMLP:
    """Multilayer perceptrons, G for each of M members, applied with one product per layer.

    Weights and biases are drawn uniformly from +-1/sqrt(fan-in), as in `torch.nn.Linear`.

    Args:
        sizes: Width of the input, of every hidden layer and of the output.
        groups: G, networks per member (critics, ensemble).
        streams: Random streams of the initial values, one generator per member.
        activation: Activation after every layer but the last.
        precision: With "bfloat16" the hidden layers compute in bfloat16; parameters, their
            gradients and the last layer stay float32. "tf32" applies to every product, see
            `products.set_precision`.

    Attributes:
        parameters: Weights [M, G, in, out] and biases [M, G, 1, out], layer by layer.
        layers: The same memory in the shapes of `core.passes`, [M G, in, out] and [M G, 1, out].
        flat: The tensor that holds all parameters, one row per network.
        active: Which members are computed, [M]; see `only`.
    """

    def __init__(
        self,
        sizes: list[int],
        groups: int,
        streams: Streams,
        activation: Activation,
        precision: Precision = "float32",
    ) -> None:
        self.activation, self.precision = activation, precision
        self._shapes = [
            torch.Size((len(streams.generators), groups, *shape))
            for fan_in, fan_out in itertools.pairwise(sizes)
            for shape in ((fan_in, fan_out), (1, fan_out))
        ]
        length = sum(shape[2:].numel() for shape in self._shapes)
        self.active: Sequence[bool] = [True] * len(streams.generators)
        rows, padded = self._shapes[0][:2].numel(), ALIGNED * math.ceil(length / ALIGNED)
        self._lay_out(torch.zeros(rows, padded, device=streams.device))
        self.redraw(streams)
        for p in self.parameters:
            p.requires_grad_()

    def _lay_out(self, flat: Tensor) -> None:
        self.flat = flat
        lengths = [shape[2:].numel() for shape in self._shapes]
        pieces = zip(torch.split(flat[:, : sum(lengths)], lengths, 1), self._shapes, strict=True)
        self.layers = [piece.view(len(flat), *shape[2:]) for piece, shape in pieces]
        views = zip(self.layers, self._shapes, strict=True)
        self.parameters = [layer.view(shape) for layer, shape in views]

    @torch.no_grad()
    def redraw(self, streams: Streams) -> None:
        """Reinitialises the parameters."""
        for weight, bias in zip(self.parameters[::2], self.parameters[1::2], strict=True):
            for p in (weight, bias):
                p.copy_((2 * streams.uniform(*p.shape[1:]) - 1) / math.sqrt(weight.shape[2]))

    def __call__(self, x: Tensor) -> Tensor:
        """Applies the networks.

        Args:
            x: Inputs, [M, G, B, in], or [M, 1, B, in] to give all networks of a member the same.

        Returns:
            Outputs, [M, G, B, out].
        """
        members, groups = self._shapes[0][:2]
        x = x.expand(members, groups, *x.shape[2:])
        if torch.is_grad_enabled():
            out: Tensor = _Apply.apply(x, self, *self.parameters)  # type: ignore[no-untyped-call]
        else:
            out, _ = self.outputs(x, self.parts(x), keep=False)
        return by_member(out, members)

    @contextmanager
    def only(self, active: Sequence[bool]) -> Iterator[None]:
        """Context in which at least the active members, [M], are computed.

        Outputs and gradients of members that are not computed are zeros. Members that share a
        slice with an active one are computed too: see `parts`.
        """
        self.active = active
        try:
            yield
        finally:
            self.active = [True] * len(active)

    def parts(self, x: Tensor) -> list[slice]:
        """Slices of members that are processed together, see `cache_parts`."""
        members, groups, rows, _ = x.shape
        widest = max((shape[-1] for shape in self._shapes[:-2:2]), default=1)
        slices = cache_parts(members, groups * rows * widest * x.element_size(), x.device)
        return [part for part in slices if any(self.active[part])]

    def outputs(
        self, x: Tensor, parts: Sequence[slice], keep: bool = True
    ) -> tuple[Tensor, list[list[Tensor]]]:
        """Outputs, [M G, B, out], and, if kept, for each slice of members every layer's inputs."""
        whole = x.new_zeros(*x.shape[:3], self._shapes[-1][-1])
        kept = []
        for members in parts:
            out, inputs = self.forward(x, members)
            whole[members] = out.view_as(whole[members])
            if keep:
                kept.append(inputs)
        return whole.flatten(0, 1), kept

    def forward(self, x: Tensor, members: slice) -> tuple[Tensor, list[Tensor]]:
        """Applies `passes.forward` to a slice of the members; x is [M, G, B, in]."""
        return forward(self.rounded(members), x[members].flatten(0, 1), self.activation)

    def rounded(self, members: slice = slice(None)) -> Parameters:
        """Parameters of a slice of the members, in the precision of the products."""
        return rounded(part(self.layers, members, self._shapes[0][0]), self.precision)

    def state(self) -> Tree:
        """State for a checkpoint, see `core.state`."""
        return {str(i): p.detach() for i, p in enumerate(self.parameters)}

    @torch.no_grad()
    def load(self, saved: Tree) -> None:
        """Restores the state that `state` returned."""
        for i, p in enumerate(self.parameters):
            p.copy_(saved[str(i)])

    def largest(self) -> Tensor:
        """Largest absolute parameter of each member, [M]; not finite if any parameter is not."""
        return self.flat.abs().amax(1).view(self._shapes[0][:2]).amax(1)

    def first(self, count: int) -> "StackedMLP":
        """The first layers as networks, with no activation after the last; memory is shared."""
        shared = copy.copy(self)
        shared._shapes = self._shapes[: 2 * count]
        shared.layers = self.layers[: 2 * count]
        shared.parameters = self.parameters[: 2 * count]
        return shared

    def frozen_copy(self) -> "StackedMLP":
        """Copy with equal parameters that do not require gradients."""
        twin = copy.copy(self)
        twin._lay_out(self.flat.clone())
        return twin

    @torch.no_grad()
    def copy_from(self, other: "StackedMLP") -> None:
        """Copies the parameters of another stack."""
        self.flat.copy_(other.flat)


class _Apply(Function):
    """Autograd function of `StackedMLP`."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, net: StackedMLP, *parameters: Tensor) -> Tensor:
        """Outputs, [M G, B, out], of inputs [M, G, B, in]."""
        ctx.net, ctx.shape, ctx.parts = net, x.shape, net.parts(x)
        out, inputs = net.outputs(x, ctx.parts)
        # Saved so that autograd raises an error if the parameters changed before the backward pass.
        ctx.save_for_backward(net.flat, *itertools.chain(*inputs))
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients with respect to x and to the parameters, those that autograd needs."""
        net: StackedMLP = ctx.net
        _, *saved = ctx.saved_tensors
        # Contiguous, because the library selects its kernel, and so the last bits, by strides.
        gradient = gradient.contiguous().view(*ctx.shape[:3], -1)
        grad_x = gradient.new_zeros(ctx.shape) if ctx.needs_input_grad[0] else None
        wanted = net.parameters if any(ctx.needs_input_grad[2:]) else []
        gradients = [torch.zeros_like(p) for p in wanted]
        depth = len(saved) // len(ctx.parts)
        for members in ctx.parts:
            inputs, saved = saved[:depth], saved[depth:]
            passed = net.rounded(members), inputs, gradient[members].flatten(0, 1)
            if grad_x is not None:
                rows = input_gradient(*passed, slice(None), net.activation)
                grad_x[members] = rows.view_as(grad_x[members])
            if gradients:
                own = parameter_gradients(*passed, net.activation)
                for whole, g in zip(gradients, own, strict=True):
                    whole[members] = g.view_as(whole[members])
        return grad_x, None, *(gradients or len(net.parameters) * [None])
