"""Values, tables and bytes for the fuzz tests, from valid ones to noise."""

from __future__ import annotations

import copy
import datetime
import math
from collections.abc import Mapping, Sequence
from typing import Any

import tomli_w
from hypothesis import strategies as st

from mujoco_sail.recipes.load import Kind, read_merged, read_recipe, recipe_names

# --- values ------------------------------------------------------------------------------------

NASTY = (
    "",
    ".",
    "..",
    "../../x",
    "/x",
    "\0",
    "a\0b",
    "\x1b[31mred\x1b[0m",
    "one\ntwo\nthree\nfour",
    "\r\x08\x7f\x9b",
    "\u202egnp.exe",
    "[bold]{x}{0}%s%n",
    "a|b",
    r"$\frac$ \input{x} _ & #",
    "é" * 300,
    "x" * 5000,
    "=SUM(A1)",
    "__import__('os').mkdir('planted')",
)
HUGE = (2**31, 2**63, -(2**63) - 1, 10**12, 10**30, 10**400, 0, -1)
FLOATS = (math.nan, math.inf, -math.inf, 1e308, -1e308, 5e-324, -0.0)

texts = st.one_of(
    st.sampled_from(NASTY), st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
)
# Arguments that a shell may pass: bytes that are not UTF-8 become lone surrogates.
words = st.one_of(texts, st.text(max_size=30), st.just("\udcff"))
scalars = st.one_of(
    st.sampled_from([*HUGE, *FLOATS]),
    st.integers(-10, 10_000),
    st.floats(),
    st.booleans(),
    texts,
    st.sampled_from([datetime.date(2020, 1, 1), datetime.time(1, 2), datetime.datetime.min]),
)
values = st.recursive(
    scalars,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(texts, inner, max_size=3)),
    max_leaves=6,
)


def mostly(right: st.SearchStrategy[Any], wrong: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Valid values in three of four cases, otherwise possibly invalid ones."""
    return st.integers(0, 3).flatmap(lambda number: right if number else wrong)


# --- tables ------------------------------------------------------------------------------------

# Lines of TOML that no dictionary can represent.
LINES = (
    b"x = 1e400",
    b"x = 0x" + b"F" * 5000,
    b"steps = " + b"9" * 5000,
    b"steps = " + b"[" * 3000 + b"]" * 3000,
    b"steps = " + b"{a=" * 2000 + b"1" + b"}" * 2000,
    b"steps" + b".a" * 3000 + b" = 1",
    b"protocols.quick.steps" + b".a" * 1500 + b" = 1",
    b"[env" + b".a" * 1500 + b"]\nx = 1",
    b"[" + b"a." * 1500 + b"a]\nx = 1",
    b"x = 2020-13-45",
    b'x = "\\uD800"',
    b"x = '''",
    b"\xff\xfe",
    b"\0",
    b"\xef\xbb\xbf",
    b"\r",
    b"[[a]]\n[a]",
)


@st.composite
def edited(draw: st.DrawFn, tables: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """One of the tables with up to three keys removed, renamed, added or set to anything."""
    table = copy.deepcopy(dict(draw(st.sampled_from(tables))))
    for _ in range(draw(st.integers(0, 3))):
        inner = table
        while nested := [value for value in inner.values() if value and isinstance(value, dict)]:
            if draw(st.booleans()):
                break
            inner = draw(st.sampled_from(nested))
        key = draw(st.sampled_from([*inner, draw(texts)]))
        old = inner.pop(key, 0)
        match draw(st.sampled_from(["set", "set", "remove", "rename", "wrap"])):
            case "set":
                inner[key] = draw(values)
            case "rename":
                inner[draw(texts)] = old
            case "wrap":
                inner[key] = draw(st.sampled_from([[old], {key: old}]))
    return table


@st.composite
def damaged(draw: st.DrawFn, whole: st.SearchStrategy[bytes]) -> bytes:
    """Bytes after up to two kinds of damage."""
    data = draw(whole)
    for _ in range(draw(st.integers(0, 2))):
        place = draw(st.integers(0, len(data)))
        rest = draw(st.integers(place, min(len(data), place + 40)))
        lines = data.split(b"\n")
        line = draw(st.integers(0, len(lines) - 1))
        match draw(st.sampled_from(["flip", "cut", "end", "insert", "line", "twice", "noise"])):
            case "flip" if place < len(data):
                bit = 1 << draw(st.integers(0, 7))
                data = data[:place] + bytes([data[place] ^ bit]) + data[place + 1 :]
            case "cut":
                data = data[:place] + data[rest:]
            case "end":
                data = data[:place]
            case "insert":
                data = data[:place] + draw(texts).encode() + data[place:]
            case "line":
                data = b"\n".join([*lines[:line], draw(st.sampled_from(LINES)), *lines[line:]])
            case "twice":
                data = b"\n".join([*lines[:line], lines[line], *lines[line:]])
            case "noise":
                data = data[:place] + draw(st.binary(max_size=20)) + data[rest:]
    return data


def documents(tables: Sequence[Mapping[str, Any]]) -> st.SearchStrategy[bytes]:
    """TOML documents, from valid ones to noise."""
    near = edited(tables).map(lambda table: tomli_w.dumps(table).encode())
    wild = st.dictionaries(texts, values, max_size=4).map(lambda t: tomli_w.dumps(t).encode())
    return st.one_of(near, near, damaged(near), wild, st.binary(max_size=60))


# --- the suite's recipes -----------------------------------------------------------------------


def tables(kind: Kind, longest: str) -> list[dict[str, Any]]:
    """Recipes of the suite of one kind, with bases found from any folder, and a complete one."""
    short = [read_recipe(kind, name)[1] for name in recipe_names(kind)]
    if kind == "envs":
        short = [{**table, "base": "hopper"} for table in short]
    return [*short, read_merged(kind, longest)[1]]


ENVS, AGENTS = tables("envs", "walker_walk"), tables("agents", "sail_revkl")
IDS = [table["id"] for table in ENVS]
