"""Elementwise functions whose last bits must not depend on a member's neighbours."""

from collections.abc import Callable

import torch
from torch import Tensor

PIECE = 2**15  # numbers that PyTorch leaves to one thread, `at::internal::GRAIN_SIZE`


def memberwise(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Applies an elementwise function to each member on its own.

    On the CPU some kernels of PyTorch (sigmoid, softplus, power) compute the numbers at the end
    of a tensor, those that do not fill a vector register, by another formula than the rest. Which
    numbers these are depends on how many members lie before them, unless each has a call of its
    own.

    Args:
        function: Elementwise, such as `torch.sigmoid`.
        x: [M, ...].

    Returns:
        [M, ...].
    """
    if x.is_cuda or torch.compiler.is_compiling():
        return function(x)
    # In pieces that PyTorch does not share among threads, for each share has an end of its own.
    pieces = [torch.split(member.flatten(), PIECE) for member in x.unbind()]
    return torch.stack([torch.cat([function(p) for p in member]) for member in pieces]).view_as(x)
