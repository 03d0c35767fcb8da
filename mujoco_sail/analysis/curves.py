"""Learning curves: a panel per environment, a curve per agent, seeds as replicates."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, MaxNLocator

from mujoco_sail.analysis import stats
from mujoco_sail.analysis.choice import MissingDataError, choose
from mujoco_sail.analysis.style import (
    NARROWEST,
    TITLE,
    Legend,
    even,
    label,
    look,
    seeds_label,
    sheet,
)
from mujoco_sail.recipes.settings import setting
from mujoco_sail.results.pooling import training_tables
from mujoco_sail.results.read import EVALUATIONS, RunRecord, agents_in_order

PANEL = (2.25, 1.75)  # inches; three panels fill a page
MARKS = 6  # markers on a curve
LINE = 0.1  # height of a line about failed seeds, as a share of a panel's


@dataclass(frozen=True, kw_only=True)
class CurvesRecipe:
    """A figure of learning curves."""

    kind: Literal["curves"] = setting()
    title: str = setting()
    caption: str = setting()  # what the band is; for the report
    # The last two are of training.csv, and only agents that learn a reward have them.
    metric: Literal["episode_return", "success_rate", "held_out_accuracy", "reward_accuracy"] = (
        setting()
    )
    # "labels" draws the last value before the next labels, of agents that use any.
    x: Literal["step", "labels"] = setting()
    # "mean" has its 95 % bootstrap interval as band, "median" the range of the middle half.
    centre: Literal["mean", "median"] = setting()
    environments: str = setting()  # names joined by commas, or "all"
    agents: str = setting()  # likewise
    x_label: str = setting()
    y_label: str = setting()
    columns: int = setting(low=1)  # panels in a row, at most


@dataclass(frozen=True)
class Arm:
    """The finished seeds of an agent on an environment.

    Attributes:
        x: Environment steps or labels, increasing, shape (points,).
        values: The metric, shape (seeds, points).
    """

    x: stats.Array
    values: stats.Array

    def band(self, centre: str) -> tuple[stats.Array, stats.Array, stats.Array]:
        """Centre, low and high of the recipe's `centre`, each of shape (points,)."""
        if centre == "median":
            low, middle, high = np.percentile(self.values, [25, 50, 75], axis=0)
            return middle, low, high
        low, high = stats.bootstrap_interval(
            [self.values], stats.mean, np.random.default_rng(stats.RESAMPLING_SEED)
        )
        return self.values.mean(axis=0), low, high


def draw(recipe: CurvesRecipe, runs: Sequence[RunRecord], where: str) -> Figure:
    """Draws the figure.

    Args:
        recipe: What to draw.
        runs: Poolable runs, complete or failed.
        where: The recipe's file, for messages.

    Raises:
        MissingDataError: The recipe names what the runs do not have, or nothing is left to draw.
        RecipeError: A damaged table of training.
    """
    agents = choose(recipe.agents, agents_in_order(runs, ""), f"{where}: key 'agents'")
    found = _by_environment([run for run in runs if run.agent in agents], recipe)
    environments = choose(recipe.environments, list(found), f"{where}: key 'environments'")
    panels = [found[env] for env in environments]
    drawn = {agent for panel in panels for agent in panel.arms}
    if not drawn:
        raise MissingDataError(f"{where}: no finished run has '{recipe.metric}'{_ask(recipe)}")

    columns = even(len(panels), recipe.columns)
    rows = math.ceil(len(panels) / columns)
    width = max(NARROWEST, PANEL[0] * columns)
    legend = Legend(agents, drawn, width)
    figure = sheet(width, PANEL[1] * rows + TITLE + legend.height)
    grid = figure.subplots(rows, columns, squeeze=False)
    for index, axes in enumerate(grid.flat):
        if index >= len(panels):
            axes.remove()
            continue
        _draw_panel(axes, panels[index], agents, recipe.centre)
        if index % columns == 0:
            axes.set_ylabel(recipe.y_label)
        if index + columns >= len(panels):
            axes.set_xlabel(recipe.x_label)
    legend.place(figure)
    figure.suptitle(recipe.title)
    return figure


def _ask(recipe: CurvesRecipe) -> str:
    return " against labels" if recipe.x == "labels" else ""


@dataclass(frozen=True)
class _Panel:
    """What one environment's panel shows: curves by agent, and lines about failed seeds."""

    env: str
    arms: Mapping[str, Arm]
    failures: Mapping[str, str]


def _by_environment(runs: Sequence[RunRecord], recipe: CurvesRecipe) -> dict[str, _Panel]:
    """The panels; where all runs of an environment failed, its panel says so."""
    panels = {}
    for env in sorted({run.env for run in runs}):
        here = [run for run in runs if run.env == env]
        arms, failures = {}, {}
        for agent in {run.agent for run in here}:
            seeds = [run for run in here if run.agent == agent]
            if arm := _arm(seeds, recipe):
                arms[agent] = arm
            if failed := sum(run.status == "failed" for run in seeds):
                failures[agent] = f"{label(agent)}: {failed} of {len(seeds)} seeds failed"
        if arms or all(run.status == "failed" for run in here):
            panels[env] = _Panel(env, arms, failures)
    return panels


def _arm(runs: Sequence[RunRecord], recipe: CurvesRecipe) -> Arm | None:
    """The curves of an agent's runs on one environment, None where there are none."""
    finished = [run for run in runs if run.status == "complete"]
    if recipe.x == "labels":
        finished = [run for run in finished if run.labels]
    if recipe.metric in EVALUATIONS:
        tables = [run.evaluations for run in finished]
    else:
        tables = training_tables(finished)
    tables = [t for t in tables if recipe.metric in t and not t[recipe.metric].isna().all()]
    if not tables:
        return None
    x = tables[0]["step"].to_numpy()
    values = np.array([table[recipe.metric] for table in tables])
    if recipe.x == "labels":
        x, values = _against_labels(tables, values)
    there = ~np.isnan(values).any(axis=0)  # an accuracy has no value before the first labels
    return Arm(x[there], values[:, there]) if there.any() else None


def _against_labels(
    tables: Sequence[pd.DataFrame], values: stats.Array
) -> tuple[stats.Array, stats.Array]:
    """What so many labels led to: every seed's last value with no more of them.

    Args:
        tables: One per seed, with the column "labels".
        values: Of their rows, shape (seeds, rows).

    Returns:
        Labels, increasing, shape (points,), and values of shape (seeds, points).
    """
    used = [np.maximum.accumulate(table["labels"].to_numpy()) for table in tables]
    labels = np.unique(np.concatenate(used))
    labels = labels[labels >= max(seed[0] for seed in used)]  # where every seed has begun
    rows = [np.searchsorted(seed, labels, side="right") - 1 for seed in used]
    return labels, np.array([value[row] for value, row in zip(values, rows, strict=True)])


def _draw_panel(axes: Axes, panel: _Panel, agents: Sequence[str], centre: str) -> None:
    """Draws the curves of one environment."""
    for index, agent in enumerate(agents):
        if agent not in panel.arms:
            continue
        arm, style = panel.arms[agent], look(index)
        middle, low, high = arm.band(centre)
        # Every agent's markers are a little further on.
        every = max(1, len(arm.x) // MARKS)
        axes.fill_between(arm.x, low, high, color=style["color"], alpha=0.15, linewidth=0)
        axes.plot(arm.x, middle, markevery=(index * every // len(agents), every), **style)
    failures = [panel.failures[agent] for agent in agents if agent in panel.failures]
    if failures and panel.arms:  # room for these lines below the curves
        bottom, top = axes.get_ylim()
        axes.set_ylim(bottom - (top - bottom) * LINE * len(failures), top)
    axes.set_title(label(panel.env), loc="left")
    seeds = [len(arm.values) for arm in panel.arms.values()]
    axes.set_title(seeds_label(seeds), loc="right", fontsize=7)
    axes.text(
        1,
        0.02,
        "\n".join(failures),
        transform=axes.transAxes,
        ha="right",
        va="bottom",
        fontsize=6,
    )
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.yaxis.set_major_locator(MaxNLocator(4))
    axes.set_xlim(left=0)
