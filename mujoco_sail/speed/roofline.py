"""Upper bound of the speed: the largest matrix products of one update alone."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal

import torch
from torch import Tensor

from mujoco_sail.core.products import product
from mujoco_sail.core.update import CRITICS
from mujoco_sail.recipes.task import Task

# Functions of PyTorch, and `core.products.product`.
ProductCall = Literal["bmm", "baddbmm", "mm", "product"]
PRODUCT_CALLS: tuple[ProductCall, ...] = ("bmm", "baddbmm", "mm", "product")


def product_operations(task: Task, members: int) -> int:
    """Floating-point operations of one call of `middle_product`."""
    return 2 * CRITICS * members * task.batch_size * task.hidden_units**2


def middle_product(
    task: Task, members: int, device: torch.device, way: ProductCall
) -> Callable[[], object]:
    """Function that computes only the critics' middle layer, [M C, B, H] x [M C, H, H]."""
    generator = torch.Generator(device).manual_seed(0)
    dtype = torch.bfloat16 if task.precision == "bfloat16" else torch.float32

    def normal(*shape: int) -> Tensor:
        return torch.randn(
            CRITICS * members, *shape, generator=generator, device=device, dtype=dtype
        )

    width = task.hidden_units
    x, weight = normal(task.batch_size, width), normal(width, width)
    out = torch.empty_like(x)
    if way == "bmm":
        return partial(torch.bmm, x, weight, out=out)
    if way == "product":
        return partial(product, x, weight)
    if way == "baddbmm":
        return partial(torch.baddbmm, normal(1, width), x, weight, out=out)
    return partial(_one_by_one, x.unbind(), weight.unbind(), out.unbind())


def _one_by_one(x: Sequence[Tensor], weight: Sequence[Tensor], out: Sequence[Tensor]) -> None:
    for a, b, c in zip(x, weight, out, strict=True):
        torch.mm(a, b, out=c)
