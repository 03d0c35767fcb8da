"""Multilayer perceptrons of many members as one batched product."""

import copy
import itertools
import math
from typing import Any, Literal

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from mujoco_sail.core.activations import Activation, activate_, backpropagate_
from mujoco_sail.core.state import Tree
from mujoco_sail.streams import Streams

Precision = Literal["float32", "bfloat16"]


class StackedMLP:
    """G networks for each of M members, [M, G, ...]; one product per layer serves all.

    Weights and biases start uniform in +-1/sqrt(fan-in), the default of a linear layer.

    Args:
        sizes: Width of the input, of every hidden layer and of the output.
        groups: G, networks of a member (critics, ensemble).
        streams: Source of the initial values, one generator per member.
        activation: Non-linearity after every layer but the last.
        precision: Of the hidden layers: of their products and of what they pass on. Parameters,
            their gradients and the last layer are float32 whatever it is.

    Attributes:
        parameters: Weights [M, G, in, out] and biases [M, G, 1, out], layer by layer.
        flat: The memory that all parameters lie in.
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
        def pieces(memory: Tensor) -> list[Tensor]:
            parts = torch.split(memory, [shape.numel() for shape in shapes])
            return [part.view(shape) for part, shape in zip(parts, shapes, strict=True)]

        self.flat, self.parameters = flat, pieces(flat)
        # What the products read, [M * G, ...].
        layers = [p.flatten(0, 1) for p in pieces(flat)]
        self.rounded, self.rounded_at = None, -1
        if self.precision == "bfloat16":
            self.rounded = torch.empty_like(flat, dtype=torch.bfloat16)
            layers[:-2] = [p.flatten(0, 1) for p in pieces(self.rounded)[:-2]]
        self.weights, self.biases = layers[::2], layers[1::2]

    def __call__(self, x: Tensor, constant: bool = False) -> Tensor:
        """Applies the networks.

        Args:
            x: [M, G, B, in], or [M, 1, B, in] to show every network of a member the same.
            constant: Whether the parameters count as constants: no gradient of them.

        Returns:
            [M, G, B, out].
        """
        # Rounded once after every step of an optimiser.
        if self.rounded is not None and self.rounded_at != self.flat._version:
            self.rounded.copy_(self.flat)
            self.rounded_at = self.flat._version
        parameters = [] if constant else self.parameters
        return _Apply.apply(x, self, *parameters)  # type: ignore[no-any-return, no-untyped-call]

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
        """A copy with equal values and no gradients."""
        twin = copy.copy(self)
        twin._lay_out(self.flat.clone(), [p.shape for p in self.parameters])
        return twin

    @torch.no_grad()
    def copy_from(self, other: "StackedMLP") -> None:
        """Takes over another stack's values."""
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
        norm = torch.stack([p.flatten(1).square().sum(1) for p in self.parameters]).sum(0).sqrt()
        scale = torch.where(norm > radius, radius / norm, torch.ones_like(norm))
        for p in self.parameters:
            p.mul_(scale.view(-1, *[1] * (p.dim() - 1)))


class _Apply(Function):
    """h <- f(h W + b) layer by layer, and the gradients written out."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, net: StackedMLP, *parameters: Tensor) -> Tensor:
        """Keeps the input h of every layer, [M * G, B, in]."""
        shape = net.parameters[0].shape[:2]
        h = x.expand(*shape, *x.shape[2:]).flatten(0, 1).to(net.weights[0].dtype)
        inputs = [h]
        for weight, bias in zip(net.weights[:-1], net.biases[:-1], strict=True):
            h = activate_(net.activation, torch.baddbmm(bias, h, weight))
            inputs.append(h)
        weight, bias, h = net.weights[-1], net.biases[-1], h.to(net.flat.dtype)
        if h.shape[1] == 1:
            # A product of one column takes another path, and other bits, when M * G is 1.
            out = torch.baddbmm(bias, h, weight)
        else:
            # Of few columns: the transposed product has few rows instead, which is faster.
            # Contiguous, for strides that depend on M would choose other products, too.
            out = torch.baddbmm(bias.mT, weight.mT, h.mT).mT.contiguous()
        ctx.net, ctx.learns, ctx.groups_of_x = net, bool(parameters), x.shape[1]
        ctx.save_for_backward(*inputs, *net.weights)
        return out.view(*shape, *out.shape[1:])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of x and, unless they are constants, of weights and biases."""
        net, layers = ctx.net, len(ctx.net.weights)
        inputs, weights = ctx.saved_tensors[:layers], ctx.saved_tensors[layers:]
        of_parameters: list[Tensor] = []
        g = gradient.flatten(0, 1).contiguous()  # of h W + b, [M * G, B, out]
        for layer in reversed(range(layers)):
            h, weight = inputs[layer], weights[layer]
            if ctx.learns:
                if layer == layers - 1:
                    of_weight = torch.bmm(g.mT, h.to(g.dtype)).mT
                else:
                    of_weight = torch.bmm(h.mT, g).to(net.flat.dtype)
                of_bias = g.sum(1, keepdim=True, dtype=net.flat.dtype)
                of_parameters[:0] = [of_weight, of_bias]
            if layer > 0:
                # One column times one row is no product for a library.
                g = g * weight.mT if g.shape[-1] == 1 else torch.bmm(g, weight.mT)
                g = backpropagate_(net.activation, g.to(h.dtype), h)
        of_x = None
        if ctx.needs_input_grad[0]:
            shape = net.parameters[0].shape[:2]
            of_x = torch.bmm(g, weights[0].mT).to(gradient.dtype)
            of_x = of_x.view(*shape, *of_x.shape[1:])
            if ctx.groups_of_x < shape[1]:
                of_x = of_x.sum(1, keepdim=True)
        shaped = (of.view(p.shape) for of, p in zip(of_parameters, net.parameters, strict=False))
        return of_x, None, *shaped
