"""Products of stacks of matrices, by the library that is faster at them."""

from functools import cache
from typing import Any

import torch
from torch import Tensor

# Shortest side of matrices from which on oneDNN beats MKL in float32; PyTorch hands it every
# product of that size.
LARGE = 256

_MKLDNN: Any = torch.backends.mkldnn


def set_precision(precision: str, device: torch.device) -> None:
    """Sets how this process multiplies float32 matrices on CUDA: as they are, or in TF32."""
    if device.type == "cuda":
        torch.backends.cuda.matmul.fp32_precision = "tf32" if precision == "tf32" else "ieee"


def product(a: Tensor, b: Tensor, bias: Tensor | None = None, out: Tensor | None = None) -> Tensor:
    """Multiplies: a b, or a b + bias.

    PyTorch asks oneDNN for a float32 product only where it may round to bfloat16. It does not
    round on processors without AMX, and there it is asked for large products.

    Args:
        a: [P, m, k].
        b: [P, k, n].
        bias: [P, 1, n].
        out: Where to write the product, [P, m, n]; of any precision.
    """
    large = min(*a.shape[1:], b.shape[2]) >= LARGE
    if not (large and a.dtype == torch.float32 and a.device.type == "cpu" and onednn_is_exact()):
        return _product(a, b, bias, out)
    _MKLDNN.matmul.fp32_precision = "bf16"
    try:
        return _product(a, b, bias, out)
    finally:
        _MKLDNN.matmul.fp32_precision = "none"


def _product(a: Tensor, b: Tensor, bias: Tensor | None, out: Tensor | None) -> Tensor:
    if bias is not None:
        return torch.baddbmm(bias, a, b)
    if out is None or out.dtype == a.dtype:
        return torch.bmm(a, b, out=out)
    return out.copy_(torch.bmm(a, b))


@cache
def onednn_is_exact() -> bool:
    """Whether oneDNN multiplies in full float32 although it may round to bfloat16."""
    wave = torch.arange(LARGE**2, dtype=torch.float64).sin().view(1, LARGE, LARGE)
    _MKLDNN.matmul.fp32_precision = "bf16"
    result = torch.bmm(wave.float(), wave.float())
    _MKLDNN.matmul.fp32_precision = "none"
    exact = torch.bmm(wave, wave)
    # Float32 errs by 1e-7, bfloat16 by 2e-3.
    return bool((result - exact).norm() < 1e-5 * exact.norm())
