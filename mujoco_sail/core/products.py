"""Matrix products and elementwise functions with bitwise equal results for a member in any stack.

Products use the faster of MKL and oneDNN.
"""

import math
import time
from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor

# Smallest dimension from which oneDNN multiplies float32 matrices faster than MKL (measured).
LARGE = 256
# PyTorch passes a bfloat16 product to oneDNN if S m k n is larger. Products with m k n up to this
# number are computed in float32, so that the choice does not depend on S.
SMALL = 16**3
TIMINGS = 12  # per precision
CACHE_LINE = 64  # bytes; no kernel distinguishes alignments beyond it
PIECE = 2**15  # largest tensor that PyTorch gives to one thread, `at::internal::GRAIN_SIZE`

_MKLDNN: Any = torch.backends.mkldnn  # typed without its `matmul`
_MATMUL = _MKLDNN.matmul
_MKL: Any = torch.backends.mkl  # untyped


def set_precision(precision: str, device: torch.device) -> None:
    """Sets whether this process multiplies float32 matrices on CUDA in TF32."""
    if device.type == "cuda":
        torch.backends.cuda.matmul.fp32_precision = "tf32" if precision == "tf32" else "ieee"


def product(a: Tensor, b: Tensor, bias: Tensor | None = None) -> Tensor:
    """Matrix product a b, or a b + bias.

    PyTorch passes a float32 product to oneDNN only if oneDNN may round to bfloat16. On processors
    without AMX oneDNN computes in full float32 all the same, so large products use it.

    On the CPU each matrix of the product is bitwise independent of S and of its index. On AMD
    processors this needs MKL_CBWR, see `mujoco_sail/__init__.py`.

    Args:
        a: [S, m, k], S matrices.
        b: [S, k, n].
        bias: [S, 1, n] or [S, m, n].
    """
    if a.device.type != "cpu" or torch.compiler.is_compiling():
        return _by_default(a, b, bias)
    sides = (*a.shape[1:], b.shape[2])
    if a.dtype == torch.bfloat16 and math.prod(sides) <= SMALL:
        exact = product(a.float(), b.float(), None if bias is None else bias.float())
        return exact.bfloat16()
    if len(a) == 1 and 1 in sides:
        # For a single matrix the library has another kernel, with other last bits, than for two.
        two = None if bias is None else bias.expand(2, -1, -1)
        return _by_default(a.expand(2, -1, -1), b.expand(2, -1, -1), two)[:1]
    if a.dtype == torch.float32 and min(sides) >= LARGE and onednn_is_exact():
        return _by_onednn(a, b, bias)
    return _by_default(a, b, bias)


def _by_default(a: Tensor, b: Tensor, bias: Tensor | None) -> Tensor:
    return torch.bmm(a, b) if bias is None else torch.baddbmm(bias, a, b)


def _by_onednn(a: Tensor, b: Tensor, bias: Tensor | None) -> Tensor:
    before = _MATMUL.fp32_precision
    _MATMUL.fp32_precision = "bf16"
    try:
        return _by_default(a, b, bias)
    finally:
        _MATMUL.fp32_precision = before


@cache
def onednn_is_exact() -> bool:
    """Whether oneDNN multiplies in full float32 even if it may round to bfloat16."""
    wave = torch.arange(LARGE**2, dtype=torch.float64).sin().view(1, LARGE, LARGE)
    for a, b in ((wave, wave), (wave.mT, wave), (wave, wave.mT)):
        exact = torch.bmm(a, b)
        error = _by_onednn(a.float(), b.float(), None) - exact
        # The relative error of float32 is 1e-7, that of bfloat16 2e-3.
        if error.norm() > 1e-5 * exact.norm():
            return False
    return True


def alignment_matters() -> bool:
    """Whether MKL's products depend on the memory alignment of the result, in this process."""
    if not _MKL.is_available():
        return False
    # One row, so small that MKL starts no threads: a process with threads should not fork.
    numbers = torch.arange(18 * 24, dtype=torch.float32, device="cpu").view(18, 24) * 0.618 % 1
    row, matrix = numbers[:1], numbers[1:].T.contiguous()
    places = torch.empty(CACHE_LINE // 4 + 17, dtype=torch.float32, device="cpu")
    results = [places[start:][:17].view(1, 17) for start in range(CACHE_LINE // 4)]
    found = [torch.mm(row, matrix, out=result).clone() for result in results]
    return any(not torch.equal(result, found[0]) for result in found)


def bfloat16_slowdown() -> float:
    """Ratio of the times of a bfloat16 and a float32 product on this CPU.

    Both are timed alternately and the shortest time of each counts, because other processes may
    interfere.
    """
    products = {dtype: _product_to_time(dtype) for dtype in (torch.float32, torch.bfloat16)}
    best = dict.fromkeys(products, math.inf)
    for _ in range(TIMINGS):
        for dtype, (a, b) in products.items():
            best[dtype] = min(best[dtype], seconds_of_product(a, b))
    return best[torch.bfloat16] / best[torch.float32]


def seconds_of_product(a: Tensor, b: Tensor) -> float:
    """Time of one product in seconds."""
    started = time.perf_counter()
    product(a, b)
    return time.perf_counter() - started


def _product_to_time(dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Two matrices for the timing, [1, 256, 1024] and [1, 1024, 1024]."""
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randn(1, rows, 1024, generator=generator).to(dtype) for rows in (256, 1024))
    return a, b


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
