"""Figures of performance profiles: fraction of an agent's runs above each score."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from mujoco_sail.analysis import across, stats
from mujoco_sail.analysis.choice import MissingDataError, choose, missing_where_refused
from mujoco_sail.analysis.figures.style import TITLE, Legend, look, seeds_label, sheet
from mujoco_sail.analysis.tables_text import failed_note
from mujoco_sail.recipes.settings import setting
from mujoco_sail.results.read import RunRecord, agents_in_order, count_failed

SIZE = (4.5, 2.6)  # inches, without title and legend
THRESHOLDS = 101
MARKS = 8  # markers per curve
# Minimum range of scores on the axis.
SHOWN = (0.0, 1.0)
OUTERMOST = (-0.5, 2.0)


@dataclass(frozen=True, kw_only=True)
class ProfileRecipe:
    """Recipe of a figure of performance profiles."""

    kind: Literal["profile"] = setting()
    title: str = setting()
    caption: str = setting()  # meaning of the band, for the report
    agents: str = setting()  # names joined by commas, or "all": those in every environment
    x_label: str = setting()
    y_label: str = setting()


def draw(recipe: ProfileRecipe, runs: Sequence[RunRecord], where: str) -> Figure:
    """Draws the figure.

    Args:
        recipe: The recipe.
        runs: Poolable runs, complete or failed.
        where: File of the recipe, for messages.

    Raises:
        MissingDataError: The runs have no data for the recipe, or there are no scores.
    """
    order = agents_in_order(runs, "")
    with missing_where_refused(where):
        scores = across.normalised_scores(runs)
    comparable = across.everywhere(scores)
    there = [agent for agent in order if agent in comparable]
    agents = choose(recipe.agents, there, f"{where}: key 'agents'")
    scores = scores[scores["agent"].isin(agents)]
    if scores.empty:
        raise MissingDataError(f"{where}: no finished run")

    looks = {agent: look(index) for index, agent in enumerate(agents)}
    legend = Legend(looks, SIZE[0])
    figure = sheet(SIZE[0], SIZE[1] + TITLE + legend.height)
    axes = figure.subplots()
    thresholds = _thresholds(scores["score"].to_numpy())
    table = across.profiles(scores, thresholds)
    every = max(1, THRESHOLDS // MARKS)
    for index, (agent, style) in enumerate(looks.items()):
        rows = table[table["agent"] == agent]
        axes.fill_between(
            thresholds, rows["low"], rows["high"], color=style["color"], alpha=0.15, linewidth=0
        )
        axes.plot(
            thresholds, rows["share"], markevery=(index * every // len(agents), every), **style
        )
    seeds = scores.groupby(["environment", "agent"]).size()
    places = scores["environment"].nunique()
    kept = "environment" if places == 1 else "environments"
    failed = count_failed(runs, agents)
    lost = failed_note(failed)
    shown = f"{places} {kept}, {seeds_label(list(seeds))} each{lost}"
    axes.set_title(shown, loc="right", fontsize=7)
    axes.set_xlim(thresholds[0], thresholds[-1])
    axes.set_ylim(0, 1.02)
    axes.xaxis.set_major_locator(MaxNLocator(6))
    axes.yaxis.set_major_formatter(PercentFormatter(1))
    axes.set_xlabel(recipe.x_label)
    axes.set_ylabel(recipe.y_label)
    legend.place(figure)
    figure.suptitle(recipe.title)
    return figure


def _thresholds(scores: stats.Array) -> stats.Array:
    """Scores on the horizontal axis: all that occur within its range."""
    low = min(SHOWN[0], max(float(scores.min()), OUTERMOST[0]))
    high = max(SHOWN[1], min(float(scores.max()), OUTERMOST[1]))
    return np.linspace(low, high, THRESHOLDS)
