"""Second figure of `mujoco-sail theory`: truncation and query selection."""

from typing import Literal

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import NullLocator

from mujoco_sail.analysis.figures.style import images, look, sheet
from mujoco_sail.theory.picking import HALF, PICKED, SHARES
from mujoco_sail.theory.summary import ESTIMATES, USUALLY, at, over_problems, session_error
from mujoco_sail.theory.truncation import (
    AGREEMENTS,
    HORIZONS,
    RANDOMNESS,
    ROUNDING,
    T1_ALONE,
    TEMPERATURES,
)

SIZE = (6.75, 5.0)  # inches, the width of a page with two columns
LOWEST, HIGHEST = 1e-3, 30  # range of the errors in panels (a) to (d)
ERRORS = (0.2, 0.5, 1, 2, 5)  # ticks of panel (f)
LABELS = (2, 4, 10, 30, 100, 300, 1000)
SESSIONS = {  # rule and session of panels (e) and (f)
    "uniform": ("uniform", PICKED),
    "disagreement": ("disagreement", PICKED),
    "disagreement, half uniform": ("disagreement", HALF),
    "disagreement, T1 alone": ("disagreement", T1_ALONE),
    "entropy": ("entropy", PICKED),
    "entropy, half uniform": ("entropy", HALF),
}


def render(truncation: pd.DataFrame, picking: pd.DataFrame) -> dict[str, bytes]:
    """Renders the figure as png and svg; equal tables give equal bytes.

    Args:
        truncation: Table of `truncation.measure`.
        picking: Table of `picking.measure`.
    """
    return images(lambda: draw(truncation, picking))


def draw(truncation: pd.DataFrame, picking: pd.DataFrame) -> Figure:
    """Draws the six panels."""
    figure = sheet(*SIZE)
    panels = figure.subplots(2, 3).flatten()
    for axes, (column, levels, label, title) in zip(
        panels,
        (
            ("horizon", HORIZONS, "horizon $H$, steps", "(a) horizon"),
            ("temperature", TEMPERATURES, r"temperature $\alpha$", "(b) temperature"),
            ("randomness", RANDOMNESS, "randomness of transitions", "(c) transitions"),
            ("agreement", AGREEMENTS, "agreement of reward and truth", "(d) agreement"),
        ),
        strict=False,  # two panels are left
    ):
        axes.set_yscale("log")
        for index, name in enumerate(ESTIMATES):
            chosen = truncation[truncation["estimate"] == name]
            varied = at(chosen, {k: v for k, v in USUALLY.items() if k != column})
            _curve(axes, over_problems(varied, column, "error"), index)
        axes.set_ylim(LOWEST, HIGHEST)
        _levels(axes, levels, label, title)
    _shares(panels[4], picking)
    _labels(panels[5], picking)
    for axes in panels[::3]:
        axes.set_ylabel(r"relative error of $\nabla J$")
    _legend(figure, ESTIMATES, "outside upper center", "(a) to (d)", len(ESTIMATES))
    _legend(figure, tuple(SESSIONS), "outside lower center", "(e), (f)", len(SESSIONS) // 2)
    return figure


def _curve(axes: Axes, values: pd.DataFrame, index: int) -> None:
    """Draws mean and interval over equally spaced levels; zeros are gaps on the log scale."""
    x, style = np.arange(len(values)), look(index)
    if axes.get_yscale() == "log":
        values = values.where(values["mean"] > ROUNDING)
    axes.fill_between(
        x, values["low"], values["high"], color=style["color"], alpha=0.15, linewidth=0
    )
    axes.plot(x, values["mean"], **style)


def _levels(axes: Axes, levels: tuple[float, ...], label: str, title: str) -> None:
    axes.set_xticks(range(len(levels)), [f"{level:g}" for level in levels])
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_minor_locator(NullLocator())
    axes.set_xlabel(label)
    axes.set_title(title, loc="left")


def _shares(axes: Axes, picking: pd.DataFrame) -> None:
    for index, part in enumerate(_sessions(picking)):
        _curve(axes, over_problems(part, "share", "error")[::-1], index)
    _levels(axes, SHARES, "share of the pairs that is picked", "(e) picking, many labels")


def _labels(axes: Axes, picking: pd.DataFrame) -> None:
    axes.set_yscale("log")
    few = picking[picking["share"] == SHARES[-1]]
    for index, part in enumerate(_sessions(few)):
        wide = pd.concat(
            part.assign(labels=n, session_error=session_error(part, n)) for n in LABELS
        )
        _curve(axes, over_problems(wide, "labels", "session_error"), index)
    axes.set_yticks(ERRORS, [f"{error:g}" for error in ERRORS])
    _levels(axes, LABELS, "labels of a session", f"(f) picking, share {SHARES[-1]:g}")


def _sessions(picking: pd.DataFrame) -> list[pd.DataFrame]:
    """Rows of each of `SESSIONS`, for the first agreement."""
    table = picking[picking["agreement"] == picking["agreement"].min()]
    return [
        table[(table["rule"] == rule) & (table["session"] == session)]
        for rule, session in SESSIONS.values()
    ]


def _legend(
    figure: Figure,
    names: tuple[str, ...],
    place: Literal["outside upper center", "outside lower center"],
    title: str,
    columns: int,
) -> None:
    handles = [Line2D([], [], label=name, **look(index)) for index, name in enumerate(names)]
    figure.legend(
        handles=handles,
        loc=place,
        title=title,
        title_fontsize=7,
        ncols=columns,
        frameon=False,
        fontsize=7,
        handlelength=2.5,
    )
