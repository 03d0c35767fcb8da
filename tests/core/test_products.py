"""Matrix products are exact, or rounded to the requested precision."""

from __future__ import annotations

from itertools import product

import pytest
import torch
from helpers.tiny import CPU, draw

from mujoco_sail.core import products


@pytest.mark.parametrize("exact", [True, False])
def test_large_float32_products_are_exact_in_either_library(
    monkeypatch: pytest.MonkeyPatch, exact: bool
) -> None:
    if not exact:  # simulates a processor on which oneDNN rounds
        monkeypatch.setattr(products, "onednn_is_exact", lambda: False)
    for m, k, n in ((256, 300, 257), (512, 1024, 1024)):
        assert min(m, k, n) >= products.LARGE
        a, b, bias = draw(2, m, k), draw(2, k, n), draw(2, 1, n)
        wanted = a.double() @ b.double()
        transposed = a.mT.contiguous().mT, b.mT.contiguous().mT
        for result in (
            products.product(a, b),
            products.product(transposed[0], b),
            products.product(a, transposed[1]),
            products.product(a, b, bias) - bias,
        ):
            # 2e-3 if rounded to bfloat16.
            assert (result - wanted).norm() < 1e-6 * wanted.norm()


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_product_is_bitwise_independent_of_the_stack_size(
    dtype: torch.dtype, transposed: bool
) -> None:
    for m, k, n in product([1, 2, 5, 15, 17, 31, 64], [1, 17, 24, 64, 128], [1, 2, 6, 17, 64, 200]):
        many = 200 if m * k * n <= products.SMALL else 4  # only few can differ in bfloat16
        a, b, bias = (t.to(dtype) for t in (draw(many, m, k), draw(many, k, n), draw(many, 1, n)))
        if transposed:
            a, b = a.mT.contiguous().mT, b.mT.contiguous().mT
        for given in ((a, b), (a, b, bias)):
            together = products.product(*given)
            for s in range(many):
                alone = products.product(*(t[s : s + 1] for t in given))
                assert torch.equal(alone, together[s : s + 1]), (m, k, n)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_equal_matrices_have_equal_products_at_every_alignment(dtype: torch.dtype) -> None:
    places = products.CACHE_LINE // dtype.itemsize
    sides = product(
        [1, 2, 5, 17], [17, 24, 64], [1, 2, 17, 31]
    )  # odd sizes change the alignment of the results
    for m, k, n in sides:
        equal = [
            draw(1, *each).to(dtype).expand(places, -1, -1) for each in ((m, k), (k, n), (1, n))
        ]
        results = [products.product(*equal), products.product(*equal[:2])]
        for place in range(places):
            a, b, bias = (_moved(matrices, place) for matrices in equal)
            for moved in (products.product(a, b, bias), products.product(a[:1], b[:1], bias[:1])):
                assert torch.equal(moved, results[0][:1].expand_as(moved)), (m, k, n, place)
            moved = products.product(a, b)
            assert torch.equal(moved, results[1][:1].expand_as(moved)), (m, k, n, place)


def _moved(matrices: torch.Tensor, place: int) -> torch.Tensor:
    """Copy that starts `place` elements after a 64-byte boundary."""
    room = torch.empty(place + matrices.numel(), dtype=matrices.dtype)
    return room[place:].view(matrices.shape).copy_(matrices)


def test_onednn_products_restore_the_precision_setting() -> None:
    mode = torch.backends.mkldnn.matmul
    products.onednn_is_exact.cache_clear()
    products.onednn_is_exact()
    products.product(draw(1, 256, 256), draw(1, 256, 256))
    assert mode.fp32_precision == "none"
    with pytest.raises(RuntimeError):
        products.product(draw(1, 256, 256), draw(1, 257, 256))
    assert mode.fp32_precision == "none"


def test_tf32_is_set_on_cuda_and_on_request_only() -> None:
    mode = torch.backends.cuda.matmul
    before = mode.fp32_precision
    cuda = torch.device("cuda")
    try:
        products.set_precision("tf32", cuda)
        assert mode.fp32_precision == "tf32"
        products.set_precision("float32", CPU)
        assert mode.fp32_precision == "tf32"
        products.set_precision("bfloat16", cuda)
        assert mode.fp32_precision == "ieee"
    finally:
        mode.fp32_precision = before
