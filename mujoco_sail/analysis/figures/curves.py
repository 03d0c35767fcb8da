"""Figures of learning curves: a panel per environment, a curve per agent."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, MaxNLocator

from mujoco_sail.analysis.choice import ALL, MissingDataError, NotApplicableError, choose
from mujoco_sail.analysis.figures.bands import Arm, arm_of
from mujoco_sail.analysis.figures.style import (
    COLOURS,
    NARROWEST,
    PAGE,
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

# Values of the key `agents` besides names and "all".
EVERYWHERE, ELSEWHERE = "in every environment", "not in every environment"
HEIGHT = 1.75  # height of a panel, inches
WIDE = 3  # panels in a row up to which two titles fit on one line
MARKS = 6  # markers per curve
LINE = 0.1  # height of a text line about failed seeds, as a share of the panel's height


@dataclass(frozen=True, kw_only=True)
class CurvesRecipe:
    """Recipe of a figure of learning curves."""

    kind: Literal["curves"] = setting()
    title: str = setting()
    caption: str = setting()  # meaning of the band, for the report
    # The last two are columns of training.csv of agents that learn a reward.
    metric: Literal["episode_return", "success_rate", "held_out_accuracy", "reward_accuracy"] = (
        setting()
    )
    # "labels": the last value before the next labels, for agents that use labels.
    x: Literal["step", "labels"] = setting()
    # The band of "mean" is its 95 % bootstrap interval, that of "median" the quartiles.
    centre: Literal["mean", "median"] = setting()
    environments: str = setting()  # names joined by commas, or "all"
    # Names or "all"; `EVERYWHERE`: agents with runs in every environment; `ELSEWHERE`: the others
    # and the baseline.
    agents: str = setting()
    baseline: str = setting()  # agent drawn in every row, if agents need several rows
    x_label: str = setting()
    y_label: str = setting()
    columns: int = setting(low=1)  # maximum number of panels in a row


def draw(recipe: CurvesRecipe, runs: Sequence[RunRecord], where: str) -> Figure:
    """Draws the figure.

    Args:
        recipe: The recipe.
        runs: Poolable runs, complete or failed.
        where: File of the recipe, for messages.

    Raises:
        MissingDataError: The runs have no data for the recipe.
        UserError: A `training.csv` is damaged.
    """
    order = agents_in_order(runs, recipe.baseline)
    by_place = recipe.agents in (EVERYWHERE, ELSEWHERE)
    agents = choose(ALL if by_place else recipe.agents, order, f"{where}: key 'agents'")
    found = _by_environment([run for run in runs if run.agent in agents], agents, recipe)
    environments = choose(recipe.environments, list(found), f"{where}: key 'environments'")
    found = {env: found[env] for env in environments}
    if by_place:
        agents, found = _by_place(found, agents, recipe, where)
    drawn = [agent for agent in agents if any(agent in here.arms for here in found.values())]
    if not drawn:
        against = " against labels" if recipe.x == "labels" else ""
        raise MissingDataError(f"{where}: no finished run has '{recipe.metric}'{against}")

    groups = divide(drawn, runs, recipe.baseline)
    looks: dict[str, dict[str, Any]] = {}
    for group in groups:
        for place, agent in enumerate(group):
            looks.setdefault(agent, look(len(looks), place))
    groups[0] += [
        agent for agent in agents if agent not in drawn
    ]  # for their text lines about failed seeds
    grid = _grid(found, groups, recipe.columns)
    columns = max(map(len, grid))
    width = max(NARROWEST, columns * PAGE / (WIDE if columns <= WIDE else WIDE + 1))
    legend = Legend(looks, width)
    figure = sheet(width, HEIGHT * len(grid) + TITLE + legend.height)
    places = figure.subplots(len(grid), columns, squeeze=False)
    drawn_in: dict[str, list[Axes]] = {}
    for row, line, below in zip(grid, places, [*grid[1:], []], strict=True):
        for column, axes in enumerate(line):
            if column >= len(row):
                axes.remove()
                continue
            env, group = row[column]
            _draw_panel(axes, found[env].of(group), looks, recipe.centre)
            axes.set_title(label(env) + ("" if columns <= WIDE else "\n"), loc="left")
            drawn_in.setdefault(env, []).append(axes)
            if column == 0:
                axes.set_ylabel(recipe.y_label)
            if column >= len(below):
                axes.set_xlabel(recipe.x_label)
    for env, of_env in drawn_in.items():
        lines = max(len(found[env].of(group).failures) for group in groups)
        _set_scale(of_env, lines)
    legend.place(figure)
    figure.suptitle(recipe.title)
    return figure


def divide(agents: Sequence[str], runs: Sequence[RunRecord], baseline: str) -> list[list[str]]:
    """Divides agents into groups of at most as many as there are colours, each with the baseline.

    Args:
        agents: Agents that have a curve.
        runs: Complete or failed runs; agents with the most complete runs come first.
        baseline: Agent that the others are compared with.
    """
    if len(agents) <= len(COLOURS):
        return [list(agents)]
    counts = {a: sum(r.agent == a and r.status == "complete" for r in runs) for a in agents}
    shared = [agent for agent in agents if agent == baseline]
    others = sorted((a for a in agents if a != baseline), key=lambda agent: -counts[agent])
    size = even(len(others), len(COLOURS) - len(shared))
    return [[*shared, *others[at : at + size]] for at in range(0, len(others), size)]


@dataclass(frozen=True)
class _Found:
    """Data of an environment: curves, and text lines about seeds that are not drawn, by agent."""

    arms: Mapping[str, Arm]
    failures: Mapping[str, str]

    def has(self, agent: str) -> bool:
        """Whether an agent has complete or failed runs on the environment."""
        return agent in self.arms or agent in self.failures

    def of(self, agents: Sequence[str]) -> "_Found":
        """Data of some agents only."""
        arms = {agent: self.arms[agent] for agent in agents if agent in self.arms}
        return _Found(arms, {a: self.failures[a] for a in agents if a in self.failures})


def _by_environment(
    runs: Sequence[RunRecord], agents: Sequence[str], recipe: CurvesRecipe
) -> dict[str, _Found]:
    """Data by environment, for environments with a curve or with only failed runs."""
    found = {}
    for env in sorted({run.env for run in runs}):
        here = [run for run in runs if run.env == env]
        arms, failures = {}, {}
        for agent in agents:
            seeds, notes = [run for run in here if run.agent == agent], []
            if failed := sum(run.status == "failed" for run in seeds):
                notes.append(f"{failed} of {len(seeds)} seeds failed")
            arm = arm_of(seeds, recipe.metric, recipe.x)
            if arm and len(arm.x):
                arms[agent] = arm
            elif arm:
                notes.append("no two seeds have a value at the same place")
            if notes:
                failures[agent] = f"{label(agent)}: {'; '.join(notes)}"
        if arms or all(run.status == "failed" for run in here):
            found[env] = _Found(arms, failures)
    return found


def _by_place(
    found: Mapping[str, _Found], agents: list[str], recipe: CurvesRecipe, where: str
) -> tuple[list[str], dict[str, _Found]]:
    """Agents and environments for `EVERYWHERE` or `ELSEWHERE`."""
    there = [agent for agent in agents if all(here.has(agent) for here in found.values())] or agents
    if recipe.agents == EVERYWHERE:
        return there, dict(found)
    others = [agent for agent in agents if agent not in there]
    if not others:
        raise NotApplicableError(f"{where}: no agent ran in some of the environments only")
    own = {env: here for env, here in found.items() if any(map(here.has, others))}
    return [agent for agent in agents if agent in (*others, recipe.baseline)], own


def _grid(
    found: Mapping[str, _Found], groups: Sequence[list[str]], columns: int
) -> list[list[tuple[str, list[str]]]]:
    """Rows of panels; each panel is an environment and a group of agents with runs on it."""
    rows = []
    for group in groups:
        own = [agent for agent in group if group is groups[0] or agent not in groups[0]]
        panels = [(env, group) for env, here in found.items() if any(map(here.has, own))]
        size = even(len(panels), columns)
        rows += [panels[at : at + size] for at in range(0, len(panels), size)]
    return rows


def _draw_panel(
    axes: Axes, found: _Found, looks: Mapping[str, dict[str, Any]], centre: str
) -> None:
    """Draws curves of some agents on an environment."""
    for place, (agent, arm) in enumerate(found.arms.items()):
        style = looks[agent]
        middle, low, high = arm.band(centre)
        # Markers of different agents are offset, so that they do not overlap.
        every = max(1, len(arm.x) // MARKS)
        offset = place * every // len(found.arms)
        axes.fill_between(arm.x, low, high, color=style["color"], alpha=0.15, linewidth=0)
        axes.plot(arm.x, middle, markevery=(offset, every), **style)
    seeds = [len(arm.values) for arm in found.arms.values()]
    axes.set_title(seeds_label(seeds), loc="right", fontsize=7)
    axes.text(
        1,
        0.02,
        "\n".join(found.failures.values()),
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
    """Sets one vertical range for all panels of an environment, with room for text lines."""
    low, high = zip(*(axes.get_ylim() for axes in panels), strict=True)
    bottom, top = min(low), max(high)
    for axes in panels:
        axes.set_ylim(bottom - (top - bottom) * LINE * lines, top)
