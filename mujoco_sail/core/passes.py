"""The forward and backward pass of stacked layers, with the gradients written out."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from mujoco_sail.core.activations import Activation, activate_, backpropagate_
from mujoco_sail.core.products import product


class Part(NamedTuple):
    """m members of a stack, whose m * G networks pass through all layers together.

    Attributes:
        members: Which of the M members.
        networks: Which of the M * G networks.
        weights: Of these networks, layer by layer, [m * G, in, out].
        biases: Of these networks, layer by layer, [m * G, 1, out].
    """

    members: slice
    networks: slice
    weights: Sequence[Tensor]
    biases: Sequence[Tensor]


def forward(activation: Activation, part: Part, x: Tensor) -> tuple[Tensor, list[Tensor]]:
    """Computes h <- f(h W + b), layer by layer.

    Args:
        activation: f, of every layer but the last.
        part: The networks.
        x: [m * G, B, in], in the precision of the first layer.

    Returns:
        The outputs, [m * G, B, out], and the input of every layer, which `backward` needs.
    """
    inputs = [x]
    for weight, bias in zip(part.weights[:-1], part.biases[:-1], strict=True):
        inputs.append(activate_(activation, product(inputs[-1], weight, bias)))
    weight, bias = part.weights[-1], part.biases[-1]
    h = inputs[-1] = inputs[-1].to(weight.dtype)
    if h.shape[1] == 1:
        # For one row and one network the library takes another path, with other last bits.
        return torch.baddbmm(bias, h, weight), inputs
    # The output has few columns; the transposed product has few rows instead, which is faster.
    # Contiguous, because strides that depend on the number of networks change the library's choice.
    return torch.baddbmm(bias.mT, weight.mT, h.mT).mT.contiguous(), inputs


def backward(
    activation: Activation,
    part: Part,
    inputs: Sequence[Tensor],
    gradient: Tensor,
    of_parameters: Sequence[Tensor] = (),
) -> Tensor:
    """Gradients of an objective of the outputs of `forward`.

    Args:
        activation: f.
        part: The networks.
        inputs: Of every layer, as `forward` returned them.
        gradient: With respect to the outputs, [m * G, B, out].
        of_parameters: Tensors that the gradients with respect to weights and biases are written
            to, layer by layer; none where they are not wanted.

    Returns:
        The gradient with respect to the first layer's h W + b, for `of_columns`.
    """
    g = gradient  # with respect to h W + b of the layer
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
            # An outer product is faster as a broadcast multiplication.
            g = g * weight.mT if g.shape[-1] == 1 else product(g, weight.mT)
            g = backpropagate_(activation, g, h).to(part.weights[layer - 1].dtype)
    return g


def of_columns(part: Part, columns: slice, gradient: Tensor) -> Tensor:
    """The gradient with respect to some columns of x, [m * G, n, B], from that of `backward`."""
    # Transposed, since there are few columns.
    return product(part.weights[0][:, columns], gradient.mT).to(part.weights[-1].dtype)
