"""Multilayer perceptrons of many members as one batched product."""

import copy
import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from mujoco_sail.core.activations import Activation
from mujoco_sail.core.passes import Part, backward, forward, of_columns
from mujoco_sail.core.state import Tree
from mujoco_sail.core.streams import Streams

Precision = Literal["float32", "tf32", "bfloat16"]

# A function that gives the gradient of an objective with respect to the outputs of some members,
# [m, G, B, out], from these outputs and the slice of the M members that they belong to.
OutputGradient = Callable[[Tensor, slice], Tensor]

# Members are processed in groups whose activations of one hidden layer take at most this many
# bytes; found by trial to suit the cache of a core, see docs/speed.md.
CACHE_BYTES = 2**20


class StackedMLP:
    """G networks for each of M members, [M, G, ...]; one product per layer serves all.

    Weights and biases start uniform in +-1/sqrt(fan-in), the default of a linear layer.

    Args:
        sizes: Width of the input, of every hidden layer and of the output.
        groups: G, networks of a member (critics, ensemble).
        streams: Source of the initial values, one generator per member.
        activation: Non-linearity after every layer but the last.
        precision: With "bfloat16" the hidden layers multiply in bfloat16 and pass bfloat16 on;
            parameters, their gradients and the last layer stay float32. "tf32" rounds every
            product, see `products.set_precision`.

    Attributes:
        parameters: Weights [M, G, in, out] and biases [M, G, 1, out], layer by layer.
        flat: The one tensor that all parameters are views of.
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
        initial = [
            (2 * streams.uniform(*shape) - 1) / math.sqrt(fan_in)
            for fan_in, fan_out in itertools.pairwise(sizes)
            for shape in ((groups, fan_in, fan_out), (groups, 1, fan_out))
        ]
        self._lay_out(torch.cat([p.flatten() for p in initial]), [p.shape for p in initial])
        for p in self.parameters:
            p.requires_grad_()

    def _lay_out(self, flat: Tensor, shapes: list[torch.Size]) -> None:
        self.flat = flat
        self._lengths = [shape.numel() for shape in shapes]
        self._shapes = [(shape[0] * shape[1], *shape[2:]) for shape in shapes]
        self.parameters = [p.view(s) for p, s in zip(self.pieces(flat), shapes, strict=True)]
        # The same memory as the products read it, [M * G, ...].
        self.layers = self.pieces(flat)
        self.rounded, self.rounded_at = None, -1
        if self.precision == "bfloat16":
            self.rounded = torch.empty_like(flat, dtype=torch.bfloat16)
            self.layers[:-2] = self.pieces(self.rounded)[:-2]
        self._parts: dict[int, list[Part]] = {}  # by the number of members in a part

    def pieces(self, memory: Tensor) -> list[Tensor]:
        """Views of a tensor laid out like `flat`: [M * G, in, out] and [M * G, 1, out]."""
        parts = torch.split(memory, self._lengths)
        return [part.view(shape) for part, shape in zip(parts, self._shapes, strict=True)]

    def __call__(self, x: Tensor) -> Tensor:
        """Applies the networks.

        Args:
            x: [M, G, B, in], or [M, 1, B, in] to show every network of a member the same.

        Returns:
            [M, G, B, out].
        """
        x = self._prepare(x)
        if torch.is_grad_enabled():
            out = _Apply.apply(x, self, *self.parameters)  # type: ignore[no-untyped-call]
        else:
            parts = self.parts(x.shape[1])
            out = torch.cat([forward(self.activation, part, x[part.networks])[0] for part in parts])
        return self._by_member(out)

    @torch.no_grad()
    def parameter_gradients(
        self, x: Tensor, output_gradient: OutputGradient
    ) -> tuple[Tensor, list[Tensor]]:
        """Outputs, and the gradients of an objective of them with respect to the parameters.

        Each part of the stack goes forward and backward before the next one begins, while its
        activations are still in the cache.

        Args:
            x: See `__call__`.
            output_gradient: Gives the objective's gradient with respect to the outputs of some
                members, [m, G, B, out], from these and the slice of the members they belong to.

        Returns:
            [M, G, B, out], and one gradient per parameter.
        """
        x, of = self._prepare(x), self.pieces(torch.empty_like(self.flat))
        outs = [
            self._forward_backward(
                part, x, output_gradient, [piece[part.networks] for piece in of]
            )[0]
            for part in self.parts(x.shape[1])
        ]
        return self._by_member(torch.cat(outs)), self.shaped(of)

    @torch.no_grad()
    def input_gradient(
        self, x: Tensor, output_gradient: OutputGradient, columns: slice
    ) -> tuple[Tensor, Tensor]:
        """Outputs, and the gradient of an objective of them with respect to some columns of x.

        Args:
            x: [M, 1, B, in].
            output_gradient: See `parameter_gradients`.
            columns: The n columns whose gradient is wanted.

        Returns:
            [M, G, B, out], and [M, B, n], summed over the networks of a member.
        """
        x, outs, of_x = self._prepare(x), [], []
        for part in self.parts(x.shape[1]):
            out, g = self._forward_backward(part, x, output_gradient)
            outs.append(out)
            of_x.append(of_columns(part, columns, g))
        return self._by_member(torch.cat(outs)), self._by_member(torch.cat(of_x)).sum(1).mT

    def _forward_backward(
        self,
        part: Part,
        x: Tensor,
        output_gradient: OutputGradient,
        of_parameters: Sequence[Tensor] = (),
    ) -> tuple[Tensor, Tensor]:
        """Outputs of a part, and the gradient that `passes.backward` returns."""
        out, inputs = forward(self.activation, part, x[part.networks])
        g = output_gradient(self._by_member(out), part.members).flatten(0, 1)
        return out, backward(self.activation, part, inputs, g, of_parameters)

    def _prepare(self, x: Tensor) -> Tensor:
        """The input of each network, [M * G, B, in], in the precision of the products."""
        # The parameters have changed since they were last rounded.
        if self.rounded is not None and self.rounded_at != self.flat._version:
            self.rounded.copy_(self.flat)
            self.rounded_at = self.flat._version
        shape = self.parameters[0].shape[:2]
        return x.expand(*shape, *x.shape[2:]).flatten(0, 1).to(self.layers[0].dtype)

    def shaped(self, pieces: Sequence[Tensor]) -> list[Tensor]:
        """Views from `pieces`, reshaped like the parameters, [M, G, ...]."""
        return [piece.view(p.shape) for piece, p in zip(pieces, self.parameters, strict=True)]

    def _by_member(self, out: Tensor) -> Tensor:
        """[m, G, ...] from [m * G, ...]."""
        return out.view(-1, self.parameters[0].shape[1], *out.shape[1:])

    def parts(self, rows: int) -> list[Part]:
        """Groups of members whose activations fit the cache together; on CUDA one group of all.

        Args:
            rows: B, the number of inputs of each network.
        """
        members, groups = self.parameters[0].shape[:2]
        size = members
        if not self.flat.is_cuda:
            widest = max(weight.shape[2] for weight in self.layers[:-2:2])
            row = groups * widest * self.layers[0].element_size()
            size = min(members, max(1, CACHE_BYTES // (rows * row)))
        if size not in self._parts:
            self._parts[size] = [
                Part(
                    slice(first, first + size),
                    at := slice(first * groups, (first + size) * groups),
                    [weight[at] for weight in self.layers[::2]],
                    [bias[at] for bias in self.layers[1::2]],
                )
                for first in range(0, members, size)
            ]
        return self._parts[size]

    def state(self) -> Tree:
        """See `core.state`."""
        return {str(i): p.detach() for i, p in enumerate(self.parameters)}

    @torch.no_grad()
    def load(self, saved: Tree) -> None:
        """See `core.state`."""
        for i, p in enumerate(self.parameters):
            p.copy_(saved[str(i)])

    def largest(self) -> Tensor:
        """Largest absolute parameter of each member, [M]; not finite if any is not."""
        return torch.stack([p.detach().abs().flatten(1).amax(1) for p in self.parameters]).amax(0)

    def frozen_copy(self) -> "StackedMLP":
        """A copy with equal values that takes no gradients."""
        twin = copy.copy(self)
        twin._lay_out(self.flat.clone(), [p.shape for p in self.parameters])
        return twin

    @torch.no_grad()
    def copy_from(self, other: "StackedMLP") -> None:
        """Copies another stack's values."""
        self.flat.copy_(other.flat)

    @torch.no_grad()
    def move_towards(self, other: "StackedMLP", tau: float) -> None:
        """Theta <- (1 - tau) theta + tau theta_other (Polyak averaging)."""
        self.flat.lerp_(other.flat, tau)

    @torch.no_grad()
    def project(self, radius: Tensor) -> None:
        """Projects each member's parameters onto the L2 ball of its radius.

        Args:
            radius: [M]; infinity leaves a member as it is.
        """
        # In two steps: the sum of very many numbers to one depends on the number of threads.
        squares = [p.square().sum(-1).flatten(1).sum(1) for p in self.parameters]
        norm = torch.stack(squares).sum(0).sqrt()
        scale = torch.where(norm > radius, radius / norm, torch.ones_like(norm))
        for p in self.parameters:
            p.mul_(scale.view(-1, *[1] * (p.dim() - 1)))


class _Apply(Function):
    """`StackedMLP` for autograd: all parts forward, and later all parts backward."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, net: StackedMLP, *parameters: Tensor) -> Tensor:
        """Outputs, [M * G, B, out], for inputs prepared by `StackedMLP._prepare`."""
        outs, kept = [], []
        for part in net.parts(x.shape[1]):
            out, inputs = forward(net.activation, part, x[part.networks])
            outs.append(out)
            kept += inputs
        ctx.net = net
        # Saved so that autograd refuses to go backward after the parameters have changed.
        ctx.save_for_backward(net.flat, *kept)
        return torch.cat(outs)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients with respect to x, where it requires one, and to the parameters."""
        net: StackedMLP = ctx.net
        flat, *kept = ctx.saved_tensors
        of, of_x = net.pieces(torch.empty_like(flat)), []
        depth = len(of) // 2
        for number, part in enumerate(net.parts(gradient.shape[1])):
            inputs = kept[number * depth :][:depth]
            of_part = [piece[part.networks] for piece in of]
            # Contiguous, because the library chooses its product, and the last bits, by strides.
            g = gradient[part.networks].contiguous()
            g = backward(net.activation, part, inputs, g, of_part)
            if ctx.needs_input_grad[0]:
                of_x.append(of_columns(part, slice(None), g))
        return torch.cat(of_x).mT if of_x else None, None, *net.shaped(of)
