"""Non-linearities of the networks, with the gradients that autograd would give."""

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

Activation = Literal["relu", "leaky_relu"]

SLOPE = 0.01  # of the leaky one below zero


def activate_(name: Activation, z: Tensor) -> Tensor:
    """Writes h = f(z) over z."""
    return functional.leaky_relu_(z, SLOPE) if name == "leaky_relu" else z.relu_()


def backpropagate(name: Activation, gradient: Tensor, h: Tensor) -> Tensor:
    """The gradient with respect to z, from that with respect to h = f(z)."""
    aten = torch.ops.aten
    if name == "leaky_relu":
        grad_z: Tensor = aten.leaky_relu_backward(gradient, h, SLOPE, True)
    else:
        grad_z = aten.threshold_backward(gradient, h, 0)
    return grad_z
