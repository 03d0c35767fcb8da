"""Format tables as Markdown, CSV and LaTeX, and numbers in their cells."""

import math
from collections.abc import Callable

import pandas as pd

from mujoco_sail.recipes.settings import nearest
from mujoco_sail.system.errors import UserError

Cells = list[list[str]]  # displayed table, header first
NONE = "-"
ESCAPES = str.maketrans(
    {letter: f"\\{letter}" for letter in "&%$#_{}"}
    | {"<": "$<$", "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
)


def render(
    frame: pd.DataFrame, cells: Callable[[pd.DataFrame], Cells], texts: int, format: str
) -> str:
    """Formats a table as text, without a newline at its end.

    Args:
        frame: The table.
        cells: Function from the table to the displayed cells.
        texts: Number of left-aligned text columns, before the columns of numbers.
        format: "md" (aligned for a terminal), "csv" (every column, plain numbers) or "latex"
            (a `tabular` that needs no package).

    Raises:
        UserError: The format is unknown.
    """
    writers: dict[str, Callable[[], str]] = {
        "md": lambda: _markdown(cells(frame), texts),
        "csv": lambda: frame.to_csv(index=False, float_format="%.10g", lineterminator="\n").rstrip(
            "\n"
        ),
        "latex": lambda: _latex(cells(frame), texts),
    }
    if format not in writers:
        raise UserError(f"unknown format '{format}'; {nearest(format, writers)}")
    return writers[format]()


def decimals(frame: pd.DataFrame, column: str) -> list[int]:
    """Number of decimals of each row, chosen by the largest number of its environment."""
    largest = frame.groupby("environment")[column].transform(lambda x: x.abs().max())
    return [0 if size >= 1000 else 1 if size >= 100 else 2 for size in largest]


def number(value: float, digits: int) -> str:
    """Formats a number with `digits` decimals; nan is a dash."""
    return NONE if math.isnan(value) else f"{value:z.{digits}f}"  # z: no minus before 0.00


def p_value(p: float) -> str:
    """Formats a p-value with four decimals, or as smaller than that; nan is a dash."""
    return "<0.0001" if p < 1e-4 else number(p, 4)


def interval(value: float, low: float, high: float, digits: int) -> str:
    """Formats a number with its interval, if it has one."""
    text = number(value, digits)
    return text if math.isnan(low) else f"{text} [{number(low, digits)}, {number(high, digits)}]"


def _markdown(cells: Cells, texts: int) -> str:
    header, *body = [[cell.replace("|", r"\|") for cell in row] for row in cells]
    widths = [max(map(len, column)) for column in zip(header, *body, strict=True)]
    rule = ["-" * width if i < texts else "-" * (width - 1) + ":" for i, width in enumerate(widths)]
    lines = [
        [
            cell.ljust(width) if i < texts else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        for row in (header, rule, *body)
    ]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _latex(cells: Cells, texts: int) -> str:
    header, *body = [[cell.translate(ESCAPES) for cell in row] for row in cells]
    # Outside of math mode, LaTeX prints a minus as a hyphen.
    body = [
        row[:texts] + ["--" if cell == NONE else cell.replace("-", "$-$") for cell in row[texts:]]
        for row in body
    ]
    lines = [rf"{' & '.join(row)} \\" for row in (header, *body)]
    columns = "l" * texts + "r" * (len(header) - texts)
    return "\n".join(
        [
            rf"\begin{{tabular}}{{{columns}}}",
            r"\hline",
            lines[0],
            r"\hline",
            *lines[1:],
            r"\hline",
            r"\end{tabular}",
        ]
    )


def failed_note(count: int) -> str:
    """Text after a number of finished runs, such as ", 2 failed"; empty if none failed."""
    return f", {count} failed" if count else ""
