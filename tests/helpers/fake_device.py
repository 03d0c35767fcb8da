"""Fake CUDA device, for which PyTorch computes only shapes and devices."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.overrides import TorchFunctionMode


@contextmanager
def fake_cuda() -> Iterator[None]:
    """Makes all tensors on "cuda" fake, as a context manager.

    Operations with tensors on the host, and operations that need synchronisation, raise an
    exception.
    """
    with FakeTensorMode(), _Calls():
        yield


class _Calls(TorchFunctionMode):
    """Replaces subscripts and copies, which PyTorch without CUDA does not support."""

    def __torch_function__(
        self,
        function: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        if function is Tensor.__getitem__:
            return _view(*args)
        if function is Tensor.__setitem__:
            tensor, key, value = args
            return torch.ops.aten.copy_(_view(tensor, key), value)
        if function is Tensor.contiguous:
            return args[0].clone(memory_format=torch.contiguous_format)
        return function(*args, **(kwargs or {}))


def _view(tensor: Tensor, key: Any) -> Tensor:
    keys = key if isinstance(key, tuple) else (key,)
    if Ellipsis in keys:
        at = keys.index(Ellipsis)
        missing = tensor.dim() - sum(part is not None for part in keys) + 1
        keys = (*keys[:at], *[slice(None)] * missing, *keys[at + 1 :])
    axis = 0
    for part in keys:
        if part is None:
            tensor = tensor.unsqueeze(axis)
        elif isinstance(part, slice):
            tensor = torch.ops.aten.slice(tensor, axis, part.start, part.stop)
        else:
            tensor = tensor.select(axis, part)
            continue
        axis += 1
    return tensor
