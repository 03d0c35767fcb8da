"""Non-linearities of the networks, in place, with the gradients that autograd would give."""

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

Activation = Literal["relu", "leaky_relu"]

SLOPE = 0.01  # of the leaky one below zero


def activate_(name: Activation, z: Tensor) -> Tensor:
    """Writes h = f(z) over z."""
    if name == "leaky_relu":
        functional.leaky_relu_(z, SLOPE)
    elif z.dtype == torch.bfloat16:
        # The sign bit is that of a 16-bit integer, and clamping integers is six times as fast.
        z.view(torch.int16).clamp_min_(0)
    else:
        z.relu_()
    return z


def backpropagate_(name: Activation, gradient: Tensor, h: Tensor) -> Tensor:
    """Writes the gradient of z over that of h = f(z)."""
    aten = torch.ops.aten
    if name == "leaky_relu":
        aten.leaky_relu_backward.grad_input(gradient, h, SLOPE, True, grad_input=gradient)
    elif h.dtype == torch.bfloat16:
        # h >= 0, so the sign of its bits is 0 or 1; multiplying by it keeps or clears the bits.
        gradient.view(torch.int16).mul_(h.view(torch.int16).sign())
    else:
        aten.threshold_backward.grad_input(gradient, h, 0, grad_input=gradient)
    return gradient
