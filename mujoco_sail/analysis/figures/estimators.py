"""Figure of the study's mechanism: accuracy of estimates of T2, and effect of T2 on a fit."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.ticker import MaxNLocator

from mujoco_sail.analysis import mechanism
from mujoco_sail.analysis.choice import NotApplicableError
from mujoco_sail.analysis.figures.style import PAGE, TITLE, label, look, seeds_label, sheet
from mujoco_sail.analysis.mechanism import ALL, MEASURES, REFERENCE
from mujoco_sail.recipes.settings import setting

HEIGHT = 2.0  # height of a row of panels with its legend, inches
SPREAD = 0.12  # horizontal distance between markers at one tick
MARGIN = 0.1  # margin above and below the intervals, as a share of their range
CURVE = ("cosine", "low", "high")
TITLES = {"log_p": "log P of its pairs", "return": "return", "accuracy": "accuracy on its pairs"}


@dataclass(frozen=True, kw_only=True)
class EstimatorsRecipe:
    """Recipe of a figure of the results of `study/mechanism.py`."""

    kind: Literal["estimators"] = setting()
    title: str = setting()
    caption: str = setting()  # meaning of points and intervals, for the report


def draw(recipe: EstimatorsRecipe, folder: Path, where: str) -> Figure:
    """Draws the figure.

    Args:
        recipe: The recipe.
        folder: See `mechanism.read`.
        where: File of the recipe, for messages.

    Raises:
        NotApplicableError: The folder has no such files.
        UserError: A file is damaged, or a seed lacks rows that others have.
    """
    try:
        near = mechanism.nearness(mechanism.read(folder, "gradients"))
        fits = mechanism.differences(mechanism.read(folder, "refits"))
    except NotApplicableError as error:
        raise NotApplicableError(f"{where}: {error.args[0]}") from error
    environments = sorted({*near["env"], *fits["env"]})
    figure = sheet(PAGE, 2 * HEIGHT * len(environments) + TITLE)
    parts = figure.subfigures(2 * len(environments), 1, squeeze=False)[:, 0]
    for env, above, below in zip(environments, parts[::2], parts[1::2], strict=True):
        _draw_estimates(above, env, near[(near["env"] == env) & (near["session"] == ALL)])
        _draw_refits(below, env, fits[fits["env"] == env])
    figure.suptitle(recipe.title)
    return figure


def _draw_estimates(part: SubFigure, env: str, near: pd.DataFrame) -> None:
    """Draws a panel for each estimate: cosine against labels by window, or against sessions."""
    names = [name for name in mechanism.ORDER[1:] if (near["estimate"] == name).any()]
    if not names:
        return
    column = {name: "window" if name == "sessions" else "labels" for name in names}
    widths = [1 + near.loc[near["estimate"] == name, column[name]].nunique() for name in names]
    panels = part.subplots(1, len(names), sharey=True, squeeze=False, width_ratios=widths)[0]
    reference = near.loc[near["estimate"] == REFERENCE, "cosine"].mean()
    for axes, name in zip(panels, names, strict=True):
        rows = near[near["estimate"] == name]
        series = {name: rows}
        if name != "sessions":
            series = {str(window): of for window, of in rows.groupby("window", sort=False)}
        _draw_points(axes, list(rows[column[name]].unique()), column[name], series, CURVE)
        axes.axhline(reference, color="black", linestyle=":", linewidth=0.8)
        axes.set_title(name, loc="left")
        axes.set_xlabel("newest sessions" if name == "sessions" else "labels")
    panels[0].set_ylabel("cosine with T2")
    panels[0].set_ylim(bottom=min(0, panels[0].get_ylim()[0]))
    part.suptitle(f"{label(env)}: estimates of T2, all sessions together", fontsize=8)
    _legend(part, panels[0], "newest episodes")


def _draw_refits(part: SubFigure, env: str, fits: pd.DataFrame) -> None:
    """Draws a panel for each measure of the new policy: difference against the weight of T2."""
    if fits.empty:
        return
    arms = {
        (row["unit"], row["lambda"]): (
            f"exact\n({row['share']:.3g})" if row["unit"] == "exact" else f"{row['lambda']:g}"
        )
        for row in fits[fits["session"] == ALL].to_dict("records")
    }
    fits = fits.assign(arm=[arms[key] for key in zip(fits["unit"], fits["lambda"], strict=True)])
    names = {ALL: "mean over sessions"}
    names |= {s: f"session {s}" for s in fits["session"].unique() if s != ALL}
    series = {name: fits[fits["session"] == session] for session, name in names.items()}
    panels = part.subplots(1, len(MEASURES), squeeze=False)[0]
    for axes, measure in zip(panels, MEASURES, strict=True):
        numbers = (measure, f"{measure}_low", f"{measure}_high")
        _draw_points(axes, list(arms.values()), "arm", series, numbers, linestyle="none")
        _show_shares(axes, fits, numbers)
        axes.axhline(0, color="black", linewidth=0.6)
        axes.set_title(TITLES[measure], loc="left")
        axes.set_xlabel("share of T2 (0: noise)")
    axes.set_title(seeds_label(list(fits["seeds"])), loc="right", fontsize=7)
    panels[0].set_ylabel("difference from 0")
    part.suptitle(f"{label(env)}: the policy of the next session after a fit with T2", fontsize=8)
    _legend(part, panels[0], "")


def _show_shares(axes: Axes, fits: pd.DataFrame, numbers: Sequence[str]) -> None:
    """Sets the range of an axis to the shares; an exact weight beyond it is an arrow with text."""
    shares, exact = fits[fits["unit"] == "share"], fits[fits["unit"] == "exact"]
    low, high = shares[numbers[1]].min(), shares[numbers[2]].max()
    if not high > low:
        return
    axes.set_ylim(low - MARGIN * (high - low), high + MARGIN * (high - low))
    place = fits["arm"].nunique() - 1
    for mean in exact.loc[exact["session"] == ALL, numbers[0]]:
        text = f"{mean:.3g}".replace("-", "\N{MINUS SIGN}")
        for beyond, end, marker, side in (
            (mean < low, 0, "v", "bottom"),
            (mean > high, 1, "^", "top"),
        ):
            if beyond:
                axes.plot(place, axes.get_ylim()[end], f"k{marker}", markersize=4, clip_on=False)
                number = axes.text(place, (low, high)[end], text, ha="center", va=side, fontsize=6)
                number.set_bbox({"facecolor": "white", "edgecolor": "none", "pad": 0.5})


def _draw_points(
    axes: Axes,
    ticks: Sequence[Any],
    column: str,
    series: Mapping[str, pd.DataFrame],
    numbers: Sequence[str],
    **changes: Any,
) -> None:
    """Draws series of points with intervals, side by side at each tick.

    Args:
        axes: Axes to draw on.
        ticks: Values on the horizontal axis, in order.
        column: Column of these values.
        series: Rows by name of the series.
        numbers: Columns of the value and of the ends of its interval.
        changes: Changes of the style of a series.
    """
    places = {tick: place for place, tick in enumerate(ticks)}
    for index, (name, rows) in enumerate(series.items()):
        at = rows[column].map(places) + SPREAD * (index - (len(series) - 1) / 2)
        middle, low, high = (rows[number] for number in numbers)
        style = look(index) | changes
        axes.vlines(at, low, high, color=style["color"], linewidth=0.9)
        axes.plot(at, middle, label=name, **style)
    axes.set_xticks(range(len(places)), [str(tick) for tick in places])
    axes.set_xlim(-0.5, len(places) - 0.5)
    axes.yaxis.set_major_locator(MaxNLocator(4))


def _legend(part: SubFigure, axes: Axes, title: str) -> None:
    handles, names = axes.get_legend_handles_labels()
    part.legend(
        handles,
        names,
        title=title,
        loc="outside lower center",
        ncols=len(names),
        frameon=False,
        handlelength=3,
    )
