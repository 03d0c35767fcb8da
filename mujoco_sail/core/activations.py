"""Activation functions of the networks and their gradients, the same as autograd's."""

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

Activation = Literal["relu", "leaky_relu"]

SLOPE = 0.01  # of the leaky ReLU below zero


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
