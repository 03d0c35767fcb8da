"""Typed settings: frozen dataclasses without defaults, filled from TOML and validated."""

import difflib
import math
import re
import tomllib
import typing
from collections.abc import Iterable, Mapping
from dataclasses import field, fields
from pathlib import Path
from typing import Any, Literal, TypeVar

from mujoco_sail.system.errors import UserError
from mujoco_sail.system.files import read_text

T = TypeVar("T")


DEEPEST = 10  # levels of nested tables and lists; a recipe has three


def read_toml(path: Path) -> dict[str, Any]:
    """Reads a TOML file; nothing in it is executed.

    Raises:
        UserError: The file cannot be read, or is not valid TOML (see `parse_toml`).
    """
    try:
        return parse_toml(read_text(path))
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise UserError(f"{path}: not valid TOML: {error}") from error


def parse_toml(text: str) -> dict[str, Any]:
    """Parses TOML; integers are limited to 64 bits, as in the specification.

    Raises:
        ValueError: The text is not valid TOML, or is nested too deeply.
    """
    try:
        table = tomllib.loads(text)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    _check_plain(table, DEEPEST)
    return table


def _check_plain(value: Any, depth: int) -> None:
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise ValueError("a whole number has more than 64 bits")
    if isinstance(value, dict | list):
        if depth == 0:
            raise ValueError("nested too deeply")
        for inner in value.values() if isinstance(value, dict) else value:
            _check_plain(inner, depth - 1)


POOLED = "pooled"  # in tables in place of an environment's name, so not allowed as a name


def setting(
    *,
    low: float = -math.inf,
    high: float = math.inf,
    above: float = -math.inf,
    below: float = math.inf,
    infinite: bool = False,
    per_member: bool = False,
) -> Any:
    """Declares a field of a settings dataclass.

    Args:
        low: Smallest allowed value.
        high: Largest allowed value.
        above: Exclusive lower bound.
        below: Exclusive upper bound.
        infinite: Whether `inf` is allowed.
        per_member: Whether members with different values may train in one stack.
    """
    return field(
        metadata={
            "low": low,
            "high": high,
            "above": above,
            "below": below,
            "infinite": infinite,
            "per_member": per_member,
        }
    )


def key_of(name: str) -> str:
    """TOML key of a dataclass field: `lambda_` is written `lambda`."""
    return name.removesuffix("_")


def check_name(name: str, where: object) -> None:
    """Checks the name of an environment, an agent or a figure.

    Names become folders, keys of `--set`, table cells and titles, and so must need no escaping.

    Args:
        name: Name of a recipe's file without its ending, or of a folder of results.
        where: Where the name was found, for the message.

    Raises:
        UserError: The name has characters other than letters, digits and `_.+-`, or it is `POOLED`.
    """
    if name == POOLED:
        raise UserError(f"{where}: '{name}' is no valid name; tables use it for all environments")
    if not re.fullmatch(r"\w[\w.+-]*", name):
        raise UserError(
            f"{where}: '{name}' is no valid name; "
            "expected letters and digits, and _.+- after the first"
        )


def nearest(name: str, allowed: Iterable[str]) -> str:
    """Hint for a message: the most similar name, if any, and the list of allowed names."""
    options = sorted(allowed)
    match = difflib.get_close_matches(name, options, n=1, cutoff=0.5)
    hint = f"did you mean '{match[0]}'? " if match else ""
    return f"{hint}allowed: {', '.join(options)}"


def build(cls: type[T], values: Mapping[str, Any], where: str) -> T:
    """Fills a settings dataclass from a TOML table.

    Args:
        cls: Dataclass whose fields were declared with `setting`.
        values: TOML table.
        where: Name of the file or table, for messages.

    Raises:
        UserError: A key is unknown or missing, or a value has the wrong type or is out of range.
    """
    types = typing.get_type_hints(cls)
    declared = {key_of(f.name): f for f in fields(cls)}  # type: ignore[arg-type]
    for key in values:
        if key not in declared:
            raise UserError(f"{where}: unknown key '{key}'; {nearest(key, declared)}")
    if missing := [key for key in declared if key not in values]:
        raise UserError(f"{where}: missing key '{missing[0]}'")
    checked = {
        f.name: _check(values[key], types[f.name], f.metadata, f"{where}: key '{key}'")
        for key, f in declared.items()
    }
    try:
        return cls(**checked)
    except UserError as error:  # of a condition that involves several keys
        raise UserError(f"{where}: {error.args[0]}", *error.args[1:]) from error


def demand(settings: Any, conditions: Iterable[tuple[str, bool, str]]) -> None:
    """Checks conditions that involve several keys.

    Args:
        settings: Settings dataclass to check.
        conditions: Tuples of a key, whether its value is allowed, and what is expected.

    Raises:
        UserError: A value is not allowed.
    """
    for key, ok, expected in conditions:
        if not ok:
            value = getattr(settings, key)
            raise UserError(f"key '{key}' is {value}; expected {expected}")


def dump(settings: Any) -> dict[str, Any]:
    """Converts a settings dataclass, with nested ones, to a TOML table."""
    table = {}
    for f in fields(settings):
        value = getattr(settings, f.name)
        if hasattr(value, "__dataclass_fields__"):
            value = dump(value)
        table[key_of(f.name)] = list(value) if isinstance(value, tuple) else value
    return table


def _check(value: Any, kind: Any, limits: Mapping[str, Any], where: str) -> Any:
    if hasattr(kind, "__dataclass_fields__"):
        if not isinstance(value, Mapping):
            raise UserError(f"{where} is {value!r}; expected a table")
        return build(kind, value, where)
    if typing.get_origin(kind) is Literal:
        choices = typing.get_args(kind)
        if value not in choices:
            raise UserError(f"{where} is {value!r}; {nearest(str(value), choices)}")
        return value
    if typing.get_origin(kind) is dict:
        if not isinstance(value, Mapping):
            raise UserError(f"{where} is {value!r}; expected tables")
        (_, part) = typing.get_args(kind)
        return {name: _check(v, part, limits, f"{where}, '{name}'") for name, v in value.items()}
    if typing.get_origin(kind) is tuple:
        parts = typing.get_args(kind)
        if not isinstance(value, list) or len(value) != len(parts):
            raise UserError(f"{where} is {value!r}; expected a list of {len(parts)}")
        return tuple(_check(v, k, limits, where) for v, k in zip(value, parts, strict=True))
    if kind is float and type(value) is int:
        value = float(value)
    if type(value) is not kind:
        raise UserError(f"{where} is {value!r}; expected {_TYPE_NAMES[kind]}")
    if kind in (int, float):
        _check_range(value, limits, where)
    if kind is str and not value.isprintable():
        raise UserError(f"{where} is {value!r}; expected no control characters")
    return value


def _check_range(value: float, limits: Mapping[str, Any], where: str) -> None:
    if math.isnan(value) or (math.isinf(value) and not limits["infinite"]):
        raise UserError(f"{where} is {value}; expected a finite number")
    for name, sign, ok in (
        ("low", ">=", value >= limits["low"]),
        ("high", "<=", value <= limits["high"]),
        ("above", ">", limits["above"] == -math.inf or value > limits["above"]),
        ("below", "<", limits["below"] == math.inf or value < limits["below"]),
    ):
        if not ok:
            raise UserError(f"{where} is {value}; expected a value {sign} {limits[name]}")


_TYPE_NAMES = {int: "a whole number", float: "a number", str: "a string", bool: "true or false"}
