"""Learning curves: panels by environment, a curve per agent, seeds as replicates."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, MaxNLocator

from mujoco_sail.analysis.arms import Arm, arm_of
from mujoco_sail.analysis.choice import MissingDataError, choose
from mujoco_sail.analysis.style import (
    COLOURS,
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
from mujoco_sail.results.read import RunRecord, agents_in_order

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
    baseline: str = setting()  # agent that is in every panel, where agents need several
    x_label: str = setting()
    y_label: str = setting()
    columns: int = setting(low=1)  # panels in a row, at most


@dataclass(frozen=True)
class _Panel:
    """Some agents on an environment: their curves, and lines about failed seeds."""

    env: str
    agents: Sequence[str]
    arms: Mapping[str, Arm]
    failures: Mapping[str, str]


def draw(recipe: CurvesRecipe, runs: Sequence[RunRecord], where: str) -> Figure:
    """Draws the figure.

    A panel has no more agents than there are colours. Where there are more, an environment has
    several panels with one scale; agents that use no labels and the baseline are in each.

    Args:
        recipe: What to draw.
        runs: Poolable runs, complete or failed.
        where: The recipe's file, for messages.

    Raises:
        MissingDataError: The recipe names what the runs do not have, or nothing is left to draw.
        RecipeError: A damaged table of training.
    """
    agents = choose(recipe.agents, agents_in_order(runs, ""), f"{where}: key 'agents'")
    runs = [run for run in runs if run.agent in agents]
    groups = _groups(agents, runs, recipe.baseline)
    found = {env: _panels(recipe, env, runs, groups) for env in sorted({run.env for run in runs})}
    there = [env for env, panels in found.items() if panels]
    environments = choose(recipe.environments, there, f"{where}: key 'environments'")
    panels = [found[env] for env in environments]
    drawn = {agent for panel in itertools.chain(*panels) for agent in panel.arms}
    if not drawn:
        against = " against labels" if recipe.x == "labels" else ""
        raise MissingDataError(f"{where}: no finished run has '{recipe.metric}'{against}")

    rows = _rows(panels, recipe.columns)
    columns = max(map(len, rows))
    width = max(NARROWEST, PANEL[0] * columns)
    looks = _looks(groups)
    legend = Legend({agent: look for agent, look in looks.items() if agent in drawn}, width)
    figure = sheet(width, PANEL[1] * len(rows) + TITLE + legend.height)
    grid = figure.subplots(len(rows), columns, squeeze=False)
    scales: dict[str, list[Axes]] = {}
    for row, places, below in zip(rows, grid, [*rows[1:], []], strict=True):
        for column, axes in enumerate(places):
            if column >= len(row):
                axes.remove()
                continue
            _draw_panel(axes, row[column], looks, recipe.centre)
            scales.setdefault(row[column].env, []).append(axes)
            if column == 0:
                axes.set_ylabel(recipe.y_label)
            if column >= len(below):
                axes.set_xlabel(recipe.x_label)
    for same in scales.values():
        low, high = zip(*(axes.get_ylim() for axes in same), strict=True)
        for axes in same:
            axes.set_ylim(min(low), max(high))
    legend.place(figure)
    figure.suptitle(recipe.title)
    return figure


def _groups(agents: Sequence[str], runs: Sequence[RunRecord], baseline: str) -> list[list[str]]:
    """The agents of each panel: those that are in all of them first, then those with most runs."""
    if len(agents) <= len(COLOURS):
        return [list(agents)]
    finished = [run for run in runs if run.status == "complete"]
    labelled = {run.agent for run in runs if run.labels}
    shared = [agent for agent in agents if agent not in labelled or agent == baseline]
    if len(shared) > len(COLOURS) // 2:  # too little room beside them
        shared = []
    others = [agent for agent in agents if agent not in shared]
    others.sort(key=lambda agent: -sum(run.agent == agent for run in finished))
    size = even(len(others), len(COLOURS) - len(shared))
    return [[*shared, *others[at : at + size]] for at in range(0, len(others), size)]


def _looks(groups: Sequence[Sequence[str]]) -> dict[str, dict[str, Any]]:
    """Each agent's line: within a panel no two colours are the same, dashes and markers help."""
    looks: dict[str, dict[str, Any]] = {}
    for group in groups:
        for place, agent in enumerate(group):
            if agent not in looks:
                looks[agent] = look(len(looks), place)
    return looks


def _panels(
    recipe: CurvesRecipe, env: str, runs: Sequence[RunRecord], groups: Sequence[Sequence[str]]
) -> list[_Panel]:
    """An environment's panels; where all of its runs failed, a panel says so."""
    arms, failures = {}, {}
    here = [run for run in runs if run.env == env]
    for agent in {run.agent for run in here}:
        seeds = [run for run in here if run.agent == agent]
        if arm := arm_of(seeds, recipe.metric, recipe.x):
            arms[agent] = arm
        if failed := sum(run.status == "failed" for run in seeds):
            failures[agent] = f"{label(agent)}: {failed} of {len(seeds)} seeds failed"
    if not arms and any(run.status != "failed" for run in here):
        return []
    shared = set.intersection(*map(set, groups)) if len(groups) > 1 else set()
    own = [group for group in groups if (set(group) - shared) & (arms.keys() | failures.keys())]
    return [_Panel(env, group, arms, failures) for group in own or groups[:1]]


def _rows(environments: Sequence[Sequence[_Panel]], columns: int) -> list[list[_Panel]]:
    """The panels row by row; several of one environment begin a row."""
    if all(len(panels) == 1 for panels in environments):
        columns = even(len(environments), columns)
    rows: list[list[_Panel]] = []
    for panels in environments:
        for index, panel in enumerate(panels):
            begins = index == 0 and bool(rows) and len(rows[-1]) + len(panels) > columns
            if not rows or begins or len(rows[-1]) == columns:
                rows.append([])
            rows[-1].append(panel)
    return rows


def _draw_panel(
    axes: Axes, panel: _Panel, looks: Mapping[str, dict[str, Any]], centre: str
) -> None:
    """Draws some of an environment's curves."""
    agents = list(looks)
    shown = [agent for agent in panel.agents if agent in panel.arms]
    for agent in shown:
        arm, style = panel.arms[agent], looks[agent]
        middle, low, high = arm.band(centre)
        # Every agent's markers are a little further on.
        every = max(1, len(arm.x) // MARKS)
        offset = agents.index(agent) * every // len(agents)
        axes.fill_between(arm.x, low, high, color=style["color"], alpha=0.15, linewidth=0)
        axes.plot(arm.x, middle, markevery=(offset, every), **style)
    failures = [panel.failures[agent] for agent in panel.agents if agent in panel.failures]
    if failures and shown:  # room for these lines below the curves
        bottom, top = axes.get_ylim()
        axes.set_ylim(bottom - (top - bottom) * LINE * len(failures), top)
    axes.set_title(label(panel.env), loc="left")
    seeds = [len(panel.arms[agent].values) for agent in shown]
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
