"""Elementwise functions with bitwise equal results for a member in any stack."""

from collections.abc import Callable

import torch
from torch import Tensor

PIECE = 2**15  # largest tensor that PyTorch gives to one thread, `at::internal::GRAIN_SIZE`


def memberwise(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Applies an elementwise function to each member separately.

    On the CPU some PyTorch kernels (sigmoid, softplus, power) compute the last elements of a
    tensor, those that do not fill a vector register, by another formula than the others. In a
    tensor of all members, which elements these are would depend on the number of members.

    Args:
        function: Elementwise function, such as `torch.sigmoid`.
        x: Input, [M, ...].

    Returns:
        f(x), [M, ...].
    """
    if x.is_cuda or torch.compiler.is_compiling():
        return function(x)
    # Pieces small enough for one thread: PyTorch would split larger ones, each with a remainder.
    pieces = [torch.split(member.flatten(), PIECE) for member in x.unbind()]
    return torch.stack([torch.cat([function(p) for p in member]) for member in pieces]).view_as(x)
