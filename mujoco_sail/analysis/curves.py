"""Learning curves: panels by environment, a curve per agent, seeds as replicates."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, MaxNLocator

from mujoco_sail.analysis.arms import Arm, arm_of
from mujoco_sail.analysis.choice import MissingDataError, choose
from mujoco_sail.analysis.panels import Panel, divide, rows
from mujoco_sail.analysis.style import NARROWEST, TITLE, Legend, label, seeds_label, sheet
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
    order = agents_in_order(runs, recipe.baseline)
    agents = choose(recipe.agents, order, f"{where}: key 'agents'")
    found = _by_environment([run for run in runs if run.agent in agents], agents, recipe)
    environments = choose(recipe.environments, list(found), f"{where}: key 'environments'")
    drawn = [agent for agent in agents if any(agent in found[env].arms for env in environments)]
    if not drawn:
        against = " against labels" if recipe.x == "labels" else ""
        raise MissingDataError(f"{where}: no finished run has '{recipe.metric}'{against}")

    division = divide(drawn, runs, recipe.baseline)
    looks = division.looks()
    panels = {
        env: division.panels(env, found[env].arms, found[env].failures) for env in environments
    }
    grid = rows(list(panels.values()), recipe.columns)
    columns = max(map(len, grid))
    width = max(NARROWEST, PANEL[0] * columns)
    legend = Legend(looks, width)
    figure = sheet(width, PANEL[1] * len(grid) + TITLE + legend.height)
    places = figure.subplots(len(grid), columns, squeeze=False)
    drawn_in: dict[str, list[Axes]] = {env: [] for env in environments}
    for row, line, below in zip(grid, places, [*grid[1:], []], strict=True):
        for column, axes in enumerate(line):
            if column >= len(row):
                axes.remove()
                continue
            _draw_panel(axes, row[column], looks, recipe.centre)
            drawn_in[row[column].env].append(axes)
            if column == 0:
                axes.set_ylabel(recipe.y_label)
            if column >= len(below):
                axes.set_xlabel(recipe.x_label)
    for env, of_env in drawn_in.items():
        _set_scale(of_env, max(len(panel.failures) for panel in panels[env]))
    legend.place(figure)
    figure.suptitle(recipe.title)
    return figure


@dataclass(frozen=True)
class _Found:
    """What an environment has: curves, and lines about failed seeds, by agent."""

    arms: Mapping[str, Arm]
    failures: Mapping[str, str]


def _by_environment(
    runs: Sequence[RunRecord], agents: Sequence[str], recipe: CurvesRecipe
) -> dict[str, _Found]:
    """The environments to draw: those with a curve, and those where all runs failed."""
    found = {}
    for env in sorted({run.env for run in runs}):
        here = [run for run in runs if run.env == env]
        arms, failures = {}, {}
        for agent in agents:
            seeds = [run for run in here if run.agent == agent]
            if arm := arm_of(seeds, recipe.metric, recipe.x):
                arms[agent] = arm
            if failed := sum(run.status == "failed" for run in seeds):
                failures[agent] = f"{label(agent)}: {failed} of {len(seeds)} seeds failed"
        if arms or all(run.status == "failed" for run in here):
            found[env] = _Found(arms, failures)
    return found


def _draw_panel(axes: Axes, panel: Panel, looks: Mapping[str, dict[str, Any]], centre: str) -> None:
    """Draws some of an environment's curves."""
    for place, (agent, arm) in enumerate(panel.arms.items()):
        style = looks[agent]
        middle, low, high = arm.band(centre)
        # Every agent's markers are a little further on.
        every = max(1, len(arm.x) // MARKS)
        offset = place * every // len(panel.arms)
        axes.fill_between(arm.x, low, high, color=style["color"], alpha=0.15, linewidth=0)
        axes.plot(arm.x, middle, markevery=(offset, every), **style)
    axes.set_title(label(panel.env), loc="left")
    seeds = [len(arm.values) for arm in panel.arms.values()]
    axes.set_title(seeds_label(seeds), loc="right", fontsize=7)
    axes.text(
        1,
        0.02,
        "\n".join(panel.failures),
        transform=axes.transAxes,
        ha="right",
        va="bottom",
        fontsize=6,
    )
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.yaxis.set_major_locator(MaxNLocator(4))
    axes.set_xlim(left=0)


def _set_scale(panels: Sequence[Axes], lines: int) -> None:
    """Gives an environment's panels one vertical axis, with room for lines below the curves."""
    low, high = zip(*(axes.get_ylim() for axes in panels), strict=True)
    bottom, top = min(low), max(high)
    for axes in panels:
        axes.set_ylim(bottom - (top - bottom) * LINE * lines, top)
