"""Stacked layers forward and back, with the gradients written out."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from mujoco_sail.core.activations import Activation, activate_, backpropagate_
from mujoco_sail.core.products import product


class Part(NamedTuple):
    """Members whose networks pass through all layers before others begin.

    Attributes:
        members: Which of the M.
        networks: Which of the M * G.
        weights: What the products read, layer by layer, [P, in, out].
        biases: Likewise, [P, 1, out].
    """

    members: slice
    networks: slice
    weights: Sequence[Tensor]
    biases: Sequence[Tensor]


def forward(activation: Activation, part: Part, x: Tensor) -> tuple[Tensor, list[Tensor]]:
    """Carries out h <- f(h W + b), layer by layer.

    Args:
        activation: f, of every layer but the last.
        part: The networks.
        x: [P, B, in], of the precision of the first layer.

    Returns:
        The outputs, [P, B, out], and the input of every layer.
    """
    inputs = [x]
    for weight, bias in zip(part.weights[:-1], part.biases[:-1], strict=True):
        inputs.append(activate_(activation, product(inputs[-1], weight, bias)))
    weight, bias = part.weights[-1], part.biases[-1]
    h = inputs[-1] = inputs[-1].to(weight.dtype)
    if h.shape[1] == 1:
        # A product of one column takes another path, and other bits, when P is 1.
        return torch.baddbmm(bias, h, weight), inputs
    # Of few columns: the transposed product has few rows instead, which is faster.
    # Contiguous, for strides that depend on P would choose other products, too.
    return torch.baddbmm(bias.mT, weight.mT, h.mT).mT.contiguous(), inputs


def backward(
    activation: Activation,
    part: Part,
    inputs: Sequence[Tensor],
    gradient: Tensor,
    of_parameters: Sequence[Tensor] = (),
) -> Tensor:
    """Gradients of what `forward` did.

    Args:
        activation: f.
        part: The networks.
        inputs: Of every layer.
        gradient: Of the outputs, [P, B, out].
        of_parameters: Where to write those of weights and biases, layer by layer; none if nobody
            asks.

    Returns:
        The gradient of the first layer's h W + b, see `of_columns`.
    """
    g = gradient  # of h W + b
    for layer in reversed(range(len(inputs))):
        h, weight = inputs[layer], part.weights[layer]
        if of_parameters:
            of_weight, of_bias = of_parameters[2 * layer : 2 * layer + 2]
            if layer == len(inputs) - 1:
                product(g.mT, h, out=of_weight.mT)
            else:
                product(h.mT, g, out=of_weight)
            torch.sum(g, 1, keepdim=True, dtype=of_bias.dtype, out=of_bias)
        if layer > 0:
            # One column times one row is no product for a library.
            g = g * weight.mT if g.shape[-1] == 1 else product(g, weight.mT)
            g = backpropagate_(activation, g, h).to(part.weights[layer - 1].dtype)
    return g


def of_columns(part: Part, columns: slice, gradient: Tensor) -> Tensor:
    """The gradient of some columns of x, [P, n, B], from what `backward` returns."""
    # Transposed, since they are few.
    return product(part.weights[0][:, columns], gradient.mT).to(part.weights[-1].dtype)
