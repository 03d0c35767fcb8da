"""Fast reader of CSV files in the form that runs write, ten times as fast as pandas.

Files of any other form, including damaged ones, are rejected and must be read by pandas.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

PLAIN = re.compile(r"[-+.,\w\n]*", re.ASCII)
NUMBERS = re.compile(r"[-+.,e\d\n]*", re.ASCII)


def cells(path: Path, columns: Sequence[str]) -> Mapping[str, tuple[str, ...]] | None:
    """Reads the cells of each column as text.

    Args:
        path: CSV file.
        columns: Required columns.

    Returns:
        Cells by column, or None if the file has another form.
    """
    text = _text(path)
    return _columns(text, columns) if PLAIN.fullmatch(text) else None


def numbers(
    path: Path, columns: Sequence[str], may_lack: Sequence[str] | None, largest: float
) -> pd.DataFrame | None:
    """Reads a table of finite numbers with an increasing column "step".

    Args:
        path: CSV file.
        columns: Required columns.
        may_lack: Columns of `columns` that may have empty cells; only `columns` are then read. If
            None, all columns are read, and those not in `columns` may have empty cells.
        largest: Largest absolute value.

    Returns:
        The numbers, with nan for empty cells, or None if the file has another form.
    """
    text = _text(path)
    header, _, body = text.partition("\n")
    if not (PLAIN.fullmatch(header) and NUMBERS.fullmatch(body)):
        return None
    found = _columns(text, columns)
    if found is None:
        return None
    names = list(found) if may_lack is None else list(columns)
    lacking = [name not in columns if may_lack is None else name in may_lack for name in names]
    try:
        values = np.array([[float(x or "nan") for x in found[name]] for name in names])
    except ValueError:
        return None
    empty = np.isnan(values)
    good = (np.abs(values) <= largest) | empty & np.array(lacking)[:, None]
    steps = values[names.index("step")]
    if not good.all() or not len(steps) or (np.diff(steps) <= 0).any():
        return None
    return pd.DataFrame(values.T, columns=names)


def _text(path: Path) -> str:
    """Text of a file; "?", which matches no form, if it is missing or not ASCII."""
    try:
        return path.read_bytes().decode("ascii")
    except (OSError, ValueError):
        return "?"


def _columns(text: str, columns: Sequence[str]) -> dict[str, tuple[str, ...]] | None:
    if not text.endswith("\n"):
        return None
    header, *rows = [line.split(",") for line in text.split("\n")[:-1]]
    whole = all(len(row) == len(header) for row in rows) and len({*header}) == len(header)
    if not whole or not {*columns} <= {*header} or not rows:
        return None
    return dict(zip(header, zip(*rows, strict=True), strict=True))
