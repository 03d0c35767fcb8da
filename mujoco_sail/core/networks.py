"""Multilayer perceptrons of many members as one batched product."""

import copy
import itertools
import math
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from mujoco_sail.core.state import Tree
from mujoco_sail.streams import Streams

Activation = Literal["relu", "leaky_relu"]


class StackedMLP:
    """G networks for each of M members, [M, G, ...]; one product per layer serves all.

    Weights and biases start uniform in +-1/sqrt(fan-in), the default of a linear layer.

    Args:
        sizes: Width of the input, of every hidden layer and of the output.
        groups: G, networks of a member (critics, ensemble).
        streams: Source of the initial values, one generator per member.
        activation: Non-linearity after every layer but the last.

    Attributes:
        parameters: Weights [M, G, in, out] and biases [M, G, 1, out], layer by layer.
    """

    def __init__(
        self, sizes: list[int], groups: int, streams: Streams, activation: Activation
    ) -> None:
        self.activation: Callable[[Tensor], Tensor] = getattr(functional, activation)
        self.parameters: list[Tensor] = []
        for fan_in, fan_out in itertools.pairwise(sizes):
            for shape in ((groups, fan_in, fan_out), (groups, 1, fan_out)):
                initial = (2 * streams.uniform(*shape) - 1) / math.sqrt(fan_in)
                self.parameters.append(initial.requires_grad_())

    def __call__(self, x: Tensor) -> Tensor:
        """Applies the networks.

        Args:
            x: [M, G, B, in], or [M, 1, B, in] to show every network of a member the same.

        Returns:
            [M, G, B, out].
        """
        members, groups = self.parameters[0].shape[:2]
        x = x.expand(members, groups, *x.shape[2:]).flatten(0, 1)
        last = len(self.parameters) - 2
        for layer in range(0, len(self.parameters), 2):
            weight, bias = self.parameters[layer : layer + 2]
            x = torch.baddbmm(bias.flatten(0, 1), x, weight.flatten(0, 1))
            if layer < last:
                x = self.activation(x)
        return x.view(members, groups, *x.shape[1:])

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
        twin.parameters = [p.detach().clone() for p in self.parameters]
        return twin

    @torch.no_grad()
    def copy_from(self, other: "StackedMLP") -> None:
        """Takes over another stack's values."""
        torch._foreach_copy_(self.parameters, other.parameters)

    @torch.no_grad()
    def move_towards(self, other: "StackedMLP", tau: float) -> None:
        """Theta <- (1 - tau) theta + tau theta_other (Polyak averaging)."""
        torch._foreach_lerp_(self.parameters, other.parameters, tau)

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
