"""State of a stack for checkpoints: a tree of plain values and tensors, member axis first.

An object that belongs in a checkpoint has `state()`, which returns its tree, and `load(tree)`,
which restores it.
"""

from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

Tree = dict[str, Any]  # of tensors [M, ...], plain values that all members share, and trees


@runtime_checkable
class Stateful(Protocol):
    """Protocol of an object that a checkpoint can hold."""

    def state(self) -> Tree:
        """State for a checkpoint; tensors may be views."""

    def load(self, saved: Tree) -> None:
        """Restores the state that `state` returned; members and shapes must be equal."""


def capture(value: Any, where: str) -> Any:
    """State of a value.

    Args:
        value: A tensor, a plain value, a `Stateful`, or a dictionary or dataclass of these.
        where: Name of the value, for error messages.

    Raises:
        TypeError: A checkpoint cannot hold the value.
    """
    if isinstance(value, Tensor):
        return value.detach()
    if isinstance(value, Stateful):
        return value.state()
    if isinstance(value, Mapping):
        return {key: capture(part, f"{where}.{key}") for key, part in value.items()}
    if is_dataclass(value) and not isinstance(value, type):
        return {f.name: capture(getattr(value, f.name), f"{where}.{f.name}") for f in fields(value)}
    if _is_plain(value):
        return value
    raise TypeError(
        f"{where} is a {type(value).__name__}: a checkpoint holds tensors, plain values and "
        "objects with state() and load(); a name that begins with _ is left out of it"
    )


def restore(current: Any, saved: Any) -> Any:
    """Restores a value from its state, on the device of the current value.

    Args:
        current: Value of a new object; a tensor of equal shape is written in place.
        saved: State that `capture` returned.
    """
    if isinstance(current, Tensor) and isinstance(saved, Tensor):
        if current.shape != saved.shape:
            return saved.to(current.device)
        with torch.no_grad():
            return current.copy_(saved)
    if isinstance(current, Stateful):
        current.load(saved)
        return current
    if isinstance(current, Mapping):
        return {key: restore(part, saved[key]) for key, part in current.items()}
    if is_dataclass(current) and not isinstance(current, type):
        parts = {key: restore(getattr(current, key), part) for key, part in saved.items()}
        return replace(current, **parts)
    return saved


def flatten(tree: Tree, prefix: str = "") -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and plain values of a tree, by dotted names."""
    tensors: dict[str, Tensor] = {}
    plain: dict[str, Any] = {}
    for key, value in tree.items():
        name = f"{prefix}{key}"
        if isinstance(value, Tensor):
            tensors[name] = value
        elif isinstance(value, dict):
            below = flatten(value, f"{name}.")
            tensors |= below[0]
            plain |= below[1]
        else:
            plain[name] = value
    return tensors, plain


def unflatten(values: Mapping[str, Any]) -> Tree:
    """Tree of values that have dotted names."""
    tree: Tree = {}
    for name, value in values.items():
        *branches, leaf = name.split(".")
        at = tree
        for branch in branches:
            at = at.setdefault(branch, {})
        at[leaf] = value
    return tree


def _is_plain(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return all(_is_plain(part) for part in value)
    return value is None or isinstance(value, bool | int | float | str)
