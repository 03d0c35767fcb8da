"""Forest plots of effect sizes against a baseline, by environment and pooled."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import MaxNLocator

from mujoco_sail.analysis import across
from mujoco_sail.analysis.choice import ALL, MissingDataError, choose, missing_where_refused
from mujoco_sail.analysis.figures.style import COLOURS, PAGE, TITLE, label, sheet
from mujoco_sail.analysis.tables_text import failed_note
from mujoco_sail.recipes.settings import setting
from mujoco_sail.results.read import RunRecord, agents_in_order, count_failed

ROW = 0.19  # height of a row, inches
SCALE = 0.55  # height of the axis below the rows with its label, inches
WIDEST = 5.0  # |d| up to which intervals always fit on the axis; longer ones may end in arrows
# Positions of the text beside the rows, see `draw_row`; with failed seeds.
COLUMNS, WITH_FAILED = (1.03, 1.15), (1.03, 1.27)
COLOUR = COLOURS[1]
SINGLE: dict[str, Any] = {"marker": "s", "markersize": 4.5}
POOLED: dict[str, Any] = {"marker": "D", "markersize": 6}


@dataclass(frozen=True, kw_only=True)
class ForestRecipe:
    """Recipe of a forest plot."""

    kind: Literal["forest"] = setting()
    title: str = setting()
    caption: str = setting()  # meaning of the interval, for the report
    baseline: str = setting()  # agent that the others are compared with
    agents: str = setting()  # names joined by commas, or "all" that use labels
    x_label: str = setting()


def draw(recipe: ForestRecipe, runs: Sequence[RunRecord], where: str) -> Figure:
    """Draws the figure.

    Args:
        recipe: The recipe.
        runs: Poolable runs, complete or failed.
        where: File of the recipe, for messages.

    Raises:
        MissingDataError: The runs have no data for the recipe, no d is defined, or the
            environments cannot be pooled.
    """
    with missing_where_refused(where):
        table = across.effects(runs, recipe.baseline)
    known = {*table.loc[table["d"].notna(), "agent"]}
    there = [a for a in agents_in_order(runs, recipe.baseline) if a in known]
    if recipe.agents == ALL:  # only agents that use labels can be compared at equal labels
        there = [a for a in there if any(run.labels for run in runs if run.agent == a)]
    agents = choose(recipe.agents, there, f"{where}: key 'agents'")
    if not agents:
        raise MissingDataError(
            f"{where}: no effect against '{recipe.baseline}' is defined; "
            "it takes two finished seeds of two agents"
        )
    groups = [table[table["agent"] == agent] for agent in agents]
    rows = len(agents) + sum(map(len, groups))
    figure = sheet(PAGE, ROW * rows + SCALE + TITLE)
    axes = figure.subplots()
    limit = _limit(pd.concat(groups))
    columns = COLUMNS
    if count_failed(runs, agents):
        columns = WITH_FAILED
        narrow(figure, 0.94)
    axes.axvline(0, color="black", linewidth=0.6)
    names: list[str] = []
    for agent, group in zip(agents, groups, strict=True):
        names.append(label(agent))
        for row in group.to_dict("records"):
            env = None if row["environment"] == across.POOLED else row["environment"]
            failed = count_failed(runs, [agent], env)
            row["seeds"] = f"{row['seeds']}{failed_note(failed)}"
            draw_row(axes, len(names), row, limit, columns)
            names.append(f"{label(row['environment'])}   ")
    dress(axes, names, {label(agent) for agent in agents}, limit)
    axes.set_title(f"worse than {label(recipe.baseline)}", loc="left", fontsize=7)
    axes.set_title(f"better than {label(recipe.baseline)}", loc="right", fontsize=7)
    axes.set_xlabel(recipe.x_label)
    figure.suptitle(recipe.title)
    return figure


def draw_row(
    axes: Axes,
    y: int,
    row: Mapping[Any, Any],
    limit: float,
    columns: tuple[float, float] = COLUMNS,
) -> None:
    """Draws one effect with its numbers; an interval end outside of the axis is an arrow.

    Args:
        axes: Axes to draw on.
        y: Vertical position.
        row: Row with "d", the ends "d_low" and "d_high" of its interval, "environment", "seeds".
        limit: The axis is from -limit to limit.
        columns: Positions of the number of seeds and of the effect, in units of the axis' width.
    """
    d, low, high = row["d"], row["d_low"], row["d_high"]
    place: dict[str, Any] = {"transform": axes.get_yaxis_transform(), "va": "center", "fontsize": 7}
    axes.text(columns[0], y, f"n = {row['seeds']}", **place)
    if np.isnan(d):
        axes.text(columns[1], y, "undefined", **place)
        return
    pooled = row["environment"] == across.POOLED
    line: dict[str, Any] = {"color": COLOUR, "linewidth": 1.8 if pooled else 1.2}
    text = f"{d:z.2f}"
    if not np.isnan(low):
        axes.plot([max(low, -limit), min(high, limit)], [y, y], solid_capstyle="butt", **line)
        text += f" [{low:z.2f}, {high:z.2f}]"
    least, most = np.nanmin([d, low]), np.nanmax([d, high])
    for end, outside, marker in ((-limit, least < -limit, "<"), (limit, most > limit, ">")):
        if outside:
            axes.plot(end, y, marker=marker, color=COLOUR, markersize=4, clip_on=False)
    if abs(d) <= limit:
        apart = low > 0 or high < 0  # a filled marker: the interval excludes zero
        face = COLOUR if apart else "white"
        axes.plot(d, y, color=COLOUR, markerfacecolor=face, **(POOLED if pooled else SINGLE))
    weight = "bold" if pooled else "normal"
    text = text.replace("-", "\N{MINUS SIGN}")
    axes.text(columns[1], y, text, fontweight=weight, **place)


def narrow(figure: Figure, right: float) -> None:
    """Ends the layout at a share of the width: it leaves too little room for text beside axes."""
    layout = figure.get_layout_engine()
    if isinstance(layout, ConstrainedLayoutEngine):
        layout.set(rect=(0, 0, right, 1))


def dress(axes: Axes, names: Sequence[str], heads: set[str], limit: float) -> None:
    """Sets the names of rows from top to bottom, bold for headings, and the scale of d."""
    axes.set_xlim(-limit, limit)
    axes.set_ylim(len(names) - 0.3, -0.7)
    axes.set_yticks(range(len(names)), names)
    axes.tick_params(axis="y", length=0)
    for text in axes.get_yticklabels():
        text.set_fontweight("bold" if text.get_text() in heads else "normal")
    axes.spines["left"].set_visible(False)
    axes.xaxis.set_major_locator(MaxNLocator(9, steps=[1, 2, 5, 10]))


def _limit(table: pd.DataFrame) -> float:
    """Largest |d| on the axis: all intervals fit, unless a few are much longer than the others."""
    ends = table[["d", "d_low", "d_high"]].abs().to_numpy()
    return 1.05 * min(float(np.nanmax(ends)), max(WIDEST, float(np.nanmedian(ends[:, 0])) * 3))
