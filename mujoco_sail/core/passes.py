"""Forward and backward passes of stacked multilayer perceptrons, without autograd.

The parameters of S networks are a list: weight [S, in, out] and bias [S, 1, out], layer by layer.
"""

from collections.abc import Iterator, Sequence
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from mujoco_sail.core.products import product

Parameters = Sequence[Tensor]
Activation = Literal["relu", "leaky_relu"]
Precision = Literal["float32", "tf32", "bfloat16"]

SLOPE = 0.01  # of the leaky ReLU below zero
# Largest size of a hidden layer's activations in one pass; measured to fit the cache of a core, see
# docs/speed_notebook.md.
CACHE_BYTES = 2**20


def activate_(name: Activation, z: Tensor) -> Tensor:
    """Applies the activation in place, h = f(z)."""
    return functional.leaky_relu_(z, SLOPE) if name == "leaky_relu" else z.relu_()


def backpropagate(name: Activation, gradient: Tensor, h: Tensor) -> Tensor:
    """Gradient with respect to z, given the gradient with respect to h = f(z)."""
    aten = torch.ops.aten
    if name == "leaky_relu":
        grad_z: Tensor = aten.leaky_relu_backward(gradient, h, SLOPE, True)
    else:
        grad_z = aten.threshold_backward(gradient, h, 0)
    return grad_z


def cache_parts(members: int, layer_bytes: int, device: torch.device) -> list[slice]:
    """Slices of members that are processed together: `CACHE_BYTES` of activations, on CUDA all.

    Passes that fit the cache of a core are faster. Also, glibc reuses the memory of tensors of a
    few MiB, but returns that of larger ones to the system, which must then zero new pages.

    Args:
        members: M.
        layer_bytes: Size of a member's activations of one hidden layer.
        device: Device of the networks.
    """
    size = max(1, CACHE_BYTES // layer_bytes) if device.type == "cpu" else members
    return [slice(at, min(at + size, members)) for at in range(0, members, size)]


def rounded(parameters: Parameters, precision: Precision) -> Parameters:
    """Parameters in the precision of the products; the last layer is never rounded."""
    if precision != "bfloat16":
        return parameters
    return [p.bfloat16() for p in parameters[:-2]] + list(parameters[-2:])


def forward(
    parameters: Parameters, x: Tensor, activation: Activation = "relu"
) -> tuple[Tensor, list[Tensor]]:
    """Forward pass, h <- f(h W + b) for every layer.

    Args:
        parameters: Parameters of the networks.
        x: Inputs, [S, B, in].
        activation: f, of every layer but the last.

    Returns:
        The outputs, [S, B, out], and the input of every layer, which the backward passes need.
    """
    *hidden, weight, bias = parameters
    inputs = [x.to(parameters[0].dtype)]
    for w, b in zip(hidden[::2], hidden[1::2], strict=True):
        inputs.append(activate_(activation, product(inputs[-1], w, b)))
    h = inputs[-1] = inputs[-1].to(weight.dtype)
    if h.shape[1] == 1:  # the transposed product would not be faster
        return product(h, weight, bias), inputs
    # The output has few columns; the transposed product, with few rows, is faster. Contiguous,
    # because the library selects its kernel by strides, which depend on the number of networks.
    return product(weight.mT, h.mT, bias.mT).mT.contiguous(), inputs


def parameter_gradients(
    parameters: Parameters,
    inputs: Sequence[Tensor],
    gradient: Tensor,
    activation: Activation = "relu",
) -> list[Tensor]:
    """Backward pass: gradients of an objective with respect to weights and biases.

    Args:
        parameters: Parameters of the networks.
        inputs: Inputs of every layer, as `forward` returned them.
        gradient: Gradient of the objective with respect to the outputs, [S, B, out].
        activation: f.

    Returns:
        Gradients in the order and shapes of `parameters`, with the dtype of `gradient` whatever
        the precision of the layers.
    """
    gradients: list[Tensor] = []
    for layer, g in _backward(parameters, inputs, gradient, activation):
        h = inputs[layer]
        last = layer == len(inputs) - 1
        grad_weight = product(g.mT, h).mT if last else product(h.mT, g)
        grad_bias = g.sum(1, keepdim=True, dtype=gradient.dtype)
        gradients = [grad_weight.to(gradient.dtype), grad_bias, *gradients]
    return gradients


def input_gradient(
    parameters: Parameters,
    inputs: Sequence[Tensor],
    gradient: Tensor,
    columns: slice,
    activation: Activation = "relu",
) -> Tensor:
    """Gradient with respect to n columns of x, [S, B, n]; see `parameter_gradients`."""
    for _, g in _backward(parameters, inputs, gradient, activation):
        last = g  # finally, with respect to h W + b of the first layer
    # Transposed, because there are few columns.
    return product(parameters[0][:, columns], last.mT).mT.to(gradient.dtype)


def output_derivative(
    parameters: Parameters,
    inputs: Sequence[Tensor],
    direction: Parameters,
    activation: Activation = "relu",
) -> Tensor:
    """Directional derivative of the outputs (a Jacobian-vector product), [S, B, out].

    Args:
        parameters: Parameters of the networks, not in bfloat16.
        inputs: Inputs of every layer, as `forward` returned them.
        direction: Direction in parameter space, in the order and shapes of `parameters`.
        activation: f.
    """
    along = product(inputs[0], *direction[:2])
    for layer, h in enumerate(inputs[1:], 1):
        # Multiplication by f', the same as for a gradient.
        along = backpropagate(activation, along, h)
        weight, grad_weight, grad_bias = (
            parameters[2 * layer],
            *direction[2 * layer : 2 * layer + 2],
        )
        along = product(along, weight, product(h, grad_weight, grad_bias))
    return along


def gram_matrices(inputs: Sequence[Tensor]) -> list[Tensor]:
    """Gram matrix of the inputs of each layer over the batch, including the bias, [S, B, B]."""
    return [product(h, h.mT) + 1 for h in inputs]


def tangent_kernel_product(
    parameters: Parameters,
    inputs: Sequence[Tensor],
    grams: Sequence[Tensor],
    vector: Tensor,
) -> Tensor:
    """Product with the neural tangent kernel of the batch, K v = J (J^T v), [S, B, out].

    J is the Jacobian of the outputs with respect to the parameters. For a layer with inputs H, the
    entry of J^T v is H^T G, where G is the gradient with respect to H W + b; in this direction
    H W + b changes by H H^T G. So no tensor of the size of the parameters is formed.

    Source: Jacot et al. 2018, arXiv 1806.07572.

    Args:
        parameters: Parameters of networks with ReLU activations, not in bfloat16.
        inputs: Inputs of every layer, as `forward` returned them.
        grams: Gram matrices of `inputs`, see `gram_matrices`.
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
    """Index of each layer, from last to first, and the gradient with respect to its h W + b."""
    g = gradient
    for layer in reversed(range(len(inputs))):
        yield layer, g
        if layer > 0:
            weight, h = parameters[2 * layer], inputs[layer]
            # An outer product is faster as a broadcast multiplication.
            g = g * weight.mT if g.shape[-1] == 1 else product(g, weight.mT)
            g = backpropagate(activation, g, h).to(parameters[2 * layer - 1].dtype)
