"""The forward and backward pass of stacked layers, with the gradients written out.

The parameters of S networks are a list: weight [S, in, out] and bias [S, 1, out], layer by layer.
"""

from collections.abc import Iterator, Sequence
from typing import Literal

import torch
from torch import Tensor

from mujoco_sail.core.activations import Activation, activate_, backpropagate
from mujoco_sail.core.products import product

# What is kept of a hidden layer's activations at once; found by trial to suit the cache of a core,
# see docs/speed.md.
CACHE_BYTES = 2**20

Parameters = Sequence[Tensor]
Precision = Literal["float32", "tf32", "bfloat16"]


def cache_parts(members: int, layer_bytes: int, device: torch.device) -> list[slice]:
    """Members that go through a pass together: as many as `CACHE_BYTES` holds, on CUDA all.

    In the cache of a core they pass faster. And tensors of a few MiB are used again, while glibc
    gives larger ones back to the system, which has to find and zero their pages anew.

    Args:
        members: M.
        layer_bytes: Of a member's activations of one hidden layer.
        device: Where they pass.
    """
    size = max(1, CACHE_BYTES // layer_bytes) if device.type == "cpu" else members
    return [slice(at, min(at + size, members)) for at in range(0, members, size)]


def rounded(parameters: Parameters, precision: Precision) -> Parameters:
    """The parameters in the precision of the products: in bfloat16 all but the last layer."""
    if precision != "bfloat16":
        return parameters
    return [p.bfloat16() for p in parameters[:-2]] + list(parameters[-2:])


def forward(
    parameters: Parameters, x: Tensor, activation: Activation = "relu"
) -> tuple[Tensor, list[Tensor]]:
    """Computes h <- f(h W + b), layer by layer.

    Args:
        parameters: Of the networks.
        x: [S, B, in].
        activation: f, of every layer but the last.

    Returns:
        The outputs, [S, B, out], and the input of every layer, which the backward passes need.
    """
    *hidden, weight, bias = parameters
    inputs = [x.to(parameters[0].dtype)]
    for w, b in zip(hidden[::2], hidden[1::2], strict=True):
        inputs.append(activate_(activation, product(inputs[-1], w, b)))
    h = inputs[-1] = inputs[-1].to(weight.dtype)
    if h.shape[1] == 1:  # transposed, it would be no faster
        return product(h, weight, bias), inputs
    # The output has few columns; the transposed product has few rows instead, which is faster.
    # Contiguous, because strides that depend on the number of networks change the library's choice.
    return product(weight.mT, h.mT, bias.mT).mT.contiguous(), inputs


def parameter_gradients(
    parameters: Parameters,
    inputs: Sequence[Tensor],
    gradient: Tensor,
    activation: Activation = "relu",
) -> list[Tensor]:
    """Gradients of an objective with respect to weights and biases, as `parameters` are laid out.

    Args:
        parameters: Of the networks.
        inputs: Of every layer, as `forward` returned them.
        gradient: Of the objective with respect to the outputs, [S, B, out].
        activation: f.

    Returns:
        float32 (float64) whatever the precision of the layers.
    """
    of: list[Tensor] = []
    for layer, g in _backward(parameters, inputs, gradient, activation):
        h = inputs[layer]
        last = layer == len(inputs) - 1
        grad_weight = product(g.mT, h).mT if last else product(h.mT, g)
        of = [grad_weight.to(gradient.dtype), g.sum(1, keepdim=True, dtype=gradient.dtype), *of]
    return of


def input_gradient(
    parameters: Parameters,
    inputs: Sequence[Tensor],
    gradient: Tensor,
    columns: slice,
    activation: Activation = "relu",
) -> Tensor:
    """Gradient with respect to some columns of x, [S, B, n]; see `parameter_gradients`."""
    for _, g in _backward(parameters, inputs, gradient, activation):
        last = g  # with respect to the first layer's h W + b, in the end
    # Transposed, since there are few columns.
    return product(parameters[0][:, columns], last.mT).mT.to(gradient.dtype)


def output_derivative(
    parameters: Parameters,
    inputs: Sequence[Tensor],
    direction: Parameters,
    activation: Activation = "relu",
) -> Tensor:
    """Derivative of the outputs along a direction in the space of the parameters, [S, B, out].

    Args:
        parameters: Of the networks, not in bfloat16.
        inputs: Of every layer, as `forward` returned them.
        direction: Of each weight and bias, as `parameters` are laid out.
        activation: f.
    """
    along = product(inputs[0], *direction[:2])
    for layer, h in enumerate(inputs[1:], 1):
        # Through f', as a gradient goes.
        along = backpropagate(activation, along, h)
        weight, grad_weight, grad_bias = (
            parameters[2 * layer],
            *direction[2 * layer : 2 * layer + 2],
        )
        along = product(along, weight, product(h, grad_weight, grad_bias))
    return along


def gram_matrices(inputs: Sequence[Tensor]) -> list[Tensor]:
    """Inner products of the states' inputs to each layer, the bias's 1 among them, [S, B, B]."""
    return [product(h, h.mT) + 1 for h in inputs]


def tangent_kernel_product(
    parameters: Parameters,
    inputs: Sequence[Tensor],
    grams: Sequence[Tensor],
    vector: Tensor,
) -> Tensor:
    """K v = J (J^T v), [S, B, out], where J is the outputs' derivative by the parameters.

    K is the neural tangent kernel of the batch. A layer's part of J^T v is H^T G, H its inputs and
    G the gradient of its H W + b; along it H W + b moves by H H^T G. So nothing of the parameters'
    size is ever made.

    Source: Jacot et al. 2018, arXiv 1806.07572.

    Args:
        parameters: Of networks with relu as f, not in bfloat16.
        inputs: Of every layer, as `forward` returned them.
        grams: Of `inputs`, see `gram_matrices`.
        vector: v, [S, B, out].
    """
    gradients = [g for _, g in _backward(parameters, inputs, vector, "relu")][::-1]
    along = product(grams[0], gradients[0])
    for layer, h in enumerate(inputs[1:], 1):
        along = backpropagate("relu", along, h)
        own = product(grams[layer], gradients[layer])
        along = product(along, parameters[2 * layer], own)
    return along


def _backward(
    parameters: Parameters, inputs: Sequence[Tensor], gradient: Tensor, activation: Activation
) -> Iterator[tuple[int, Tensor]]:
    """Each layer's number, from the last to the first, and the gradient of its h W + b."""
    g = gradient
    for layer in reversed(range(len(inputs))):
        yield layer, g
        if layer > 0:
            weight, h = parameters[2 * layer], inputs[layer]
            # An outer product is faster as a broadcast multiplication.
            g = g * weight.mT if g.shape[-1] == 1 else product(g, weight.mT)
            g = backpropagate(activation, g, h).to(parameters[2 * layer - 1].dtype)
