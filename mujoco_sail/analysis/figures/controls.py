"""Figures of control experiments: a forest plot of comparisons, and scores by label budget."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from mujoco_sail.analysis import controls
from mujoco_sail.analysis.across import METRICS
from mujoco_sail.analysis.choice import MissingDataError, names_of
from mujoco_sail.analysis.controls import Contrast, Scale
from mujoco_sail.analysis.figures import forest
from mujoco_sail.analysis.figures.style import (
    METRIC_NAMES,
    PAGE,
    TITLE,
    Legend,
    label,
    look,
    seeds_label,
    sheet,
)
from mujoco_sail.analysis.tables_text import failed_note
from mujoco_sail.recipes.settings import setting

ROW = 0.34  # height of a comparison, inches
# Positions of the text beside it, see `forest.draw_row`; with failed seeds.
COLUMNS, WITH_FAILED = (1.03, 1.19), (1.03, 1.4)
DODGE = 1.04  # factor between positions of agents with the same number of labels
HEIGHT = 2.1  # height of a row of panels, inches
FLAT: dict[str, Any] = {"solid_capstyle": "butt", "zorder": 0}


@dataclass(frozen=True, kw_only=True)
class ControlsRecipe:
    """Recipe of a forest plot of paired differences between arms of several protocols."""

    kind: Literal["controls"] = setting()
    title: str = setting()
    caption: str = setting()  # meaning of bars and intervals, for the report
    metric: Literal["auc", "final"] = setting()
    x_label: str = setting()
    scale: Scale = setting()  # noqa: RUF009 (a field)
    comparisons: dict[str, Contrast] = setting()  # noqa: RUF009 (a field)


@dataclass(frozen=True, kw_only=True)
class BudgetsRecipe:
    """Recipe of a figure of scores against the number of labels, one per protocol."""

    kind: Literal["budgets"] = setting()
    title: str = setting()
    caption: str = setting()  # meaning of points and intervals, for the report
    protocols: str = setting()  # folders joined by commas
    agents: str = setting()  # names joined by commas; a protocol may have only some of them
    differs: str = setting()  # keys in which an agent's runs may differ, see `Contrast`
    x_label: str = setting()
    y_label: str = setting()
    scale: Scale = setting()  # noqa: RUF009 (a field)


def draw_controls(recipe: ControlsRecipe, folder: Path, where: str) -> Figure:
    """Draws a row for each comparison, below what its arm is compared with.

    One without finished runs is named, without a mark.

    Args:
        recipe: The recipe.
        folder: Folder with a folder of results for each protocol.
        where: File of the recipe, for messages.

    Raises:
        NotApplicableError: The folder of the runs that normalise returns is missing.
        MissingDataError: No comparison has runs, or a difference is undefined.
        UserError: Two arms differ in keys that the recipe does not allow.
    """
    arms = controls.Arms(folder, where)
    arms.check_applicable(recipe.scale)
    compared = controls.with_runs(recipe.comparisons, arms)
    if not compared:
        raise MissingDataError(f"{where}: no comparison has finished runs in {folder}")
    table = controls.compare(compared, recipe.scale, arms)
    table = table[table["metric"] == recipe.metric]
    whole = table.groupby("agent")["share"].apply(lambda shares: shares.notna().all())
    if lacking := [name for name in compared if not whole.get(name, False)]:
        raise MissingDataError(
            f"{where}: no difference is defined of {', '.join(lacking)}; it takes sac above "
            "random, and seeds that both arms have"
        )
    rows: list[dict[Any, Any]] = table.to_dict("records")
    # Environments on which a comparison cannot be made, with the reason; "" for all.
    gaps: dict[str, dict[str, str]] = {
        name: dict.fromkeys(controls.of_one_arm(one, arms), "only one arm has finished runs")
        if name in compared
        else {"": controls.reason(one, arms)}
        for name, one in recipe.comparisons.items()
    }
    several = len({row["environment"] for row in rows}) > 1 or any(
        env for of_one in gaps.values() for env in of_one
    )
    ends = ("share", "share_low", "share_high", "detectable_share")
    limit = 1.05 * max(np.nan_to_num(abs(row[end])) for row in rows for end in ends) or 1.0
    heads = dict.fromkeys(one.against for one in recipe.comparisons.values())
    lines = len(rows) + len(heads) + sum(map(len, gaps.values()))
    figure = sheet(PAGE, ROW * lines + forest.SCALE + TITLE)
    forest.narrow(figure, 0.98)
    axes = figure.subplots()
    axes.axvline(0, color="black", linewidth=0.6)
    columns = WITH_FAILED if any(row["failed"] for row in rows) else COLUMNS
    names: list[str] = []
    for head in heads:
        names.append(f"against {label(head)}")
        for row in [row for row in rows if row["baseline"] == head]:
            y, detectable = len(names), row["detectable_share"]
            axes.plot([-detectable, detectable], [y, y], color="0.85", linewidth=9, **FLAT)
            effect = {f"d{end}": row[f"share{end}"] for end in ("", "_low", "_high")}
            failed = failed_note(row["failed"])
            effect |= {"environment": row["environment"], "seeds": f"{row['n_pairs']}{failed}"}
            forest.draw_row(axes, y, effect, limit, columns)
            place = f", {label(row['environment'])}" if several else ""
            allowed = recipe.comparisons[row["agent"]].differs
            name = f"{label(row['agent'])}{place}"
            names.append(f"{name} (predicted: {row['predicted']})\n{allowed}")
        for name, one in recipe.comparisons.items():
            for env, reason in gaps[name].items() if one.against == head else ():
                place = f", {label(env)}" if env else ""
                names.append(f"{label(name)}{place} (predicted: {one.predicted})\n{reason}")
    forest.dress(axes, names, {f"against {label(head)}" for head in heads}, limit)
    axes.set_title("worse", loc="left", fontsize=7)
    axes.set_title("better", loc="right", fontsize=7)
    axes.set_xlabel(recipe.x_label)
    figure.suptitle(recipe.title)
    return figure


def draw_budgets(recipe: BudgetsRecipe, folder: Path, where: str) -> Figure:
    """Draws both metrics against the number of labels, a row of panels for each environment.

    Arguments and errors are those of `draw_controls`.
    """
    protocols, agents = (names_of(text) for text in (recipe.protocols, recipe.agents))
    arms = controls.Arms(folder, where)
    table = controls.budgets(protocols, agents, recipe.differs, recipe.scale, arms)
    environments = list(table["environment"].unique())
    if table["score"].isna().any():
        lacking = ", ".join(table.loc[table["score"].isna(), "environment"].unique())
        raise MissingDataError(f"{where}: no score is defined on {lacking}: sac not above random")
    places = [f"{protocol}/{agent}" for protocol in protocols for agent in agents]
    lost = Counter(env for place in places for env, _ in arms.failed(place))
    looks = {name: look(at) for at, name in enumerate(agents) if (table["agent"] == name).any()}
    legend = Legend(looks, PAGE)
    figure = sheet(PAGE, HEIGHT * len(environments) + TITLE + legend.height)
    grid = figure.subplots(len(environments), len(METRICS), squeeze=False)
    for env, line in zip(environments, grid, strict=True):
        for metric, axes in zip(METRICS, line, strict=True):
            here = table[(table["environment"] == env) & (table["metric"] == metric)]
            for end in (0, 1):
                axes.axhline(end, color="black", linestyle=":", linewidth=0.8)
            for name, style in looks.items():
                rows = here[here["agent"] == name].sort_values("labels")
                at = rows["labels"] * DODGE ** agents.index(name)
                axes.vlines(at, rows["low"], rows["high"], color=style["color"])
                axes.plot(at, rows["score"], **style)
            labels = sorted(here["labels"].unique())
            axes.set_xscale("log")
            axes.set_xticks(labels, [f"{count:g}" for count in labels])
            axes.xaxis.set_minor_locator(NullLocator())
            axes.set_title(f"{label(env)}: {METRIC_NAMES[metric]}", loc="left")
            failed = failed_note(lost[env])
            seeds = seeds_label(list(here["seeds"]))
            axes.set_title(f"{seeds}{failed}", loc="right", fontsize=7)
            axes.set_xlabel(recipe.x_label)
        line[0].set_ylabel(recipe.y_label)
    legend.place(figure)
    figure.suptitle(recipe.title)
    return figure
