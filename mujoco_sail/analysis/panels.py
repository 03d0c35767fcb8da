"""Which curves share a panel, and where the panels stand."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mujoco_sail.analysis.arms import Arm
from mujoco_sail.analysis.style import COLOURS, even, look
from mujoco_sail.results.read import RunRecord


@dataclass(frozen=True)
class Panel:
    """Curves on an environment, and lines about failed seeds."""

    env: str
    arms: Mapping[str, Arm]
    failures: Sequence[str]


@dataclass(frozen=True)
class Division:
    """The agents of a figure, no more in a panel than there are colours.

    Attributes:
        shared: In every panel.
        groups: Beside them, a group in each panel.
    """

    shared: Sequence[str]
    groups: Sequence[Sequence[str]]

    def looks(self) -> dict[str, dict[str, Any]]:
        """How each agent is drawn, in the legend's order: within a panel each in its own colour."""
        looks = {agent: look(place) for place, agent in enumerate(self.shared)}
        for group in self.groups:
            for place, agent in enumerate(group, len(self.shared)):
                looks[agent] = look(len(looks), place)
        return looks

    def panels(self, env: str, arms: Mapping[str, Arm], failures: Mapping[str, str]) -> list[Panel]:
        """An environment's panels, one for each group that has curves there.

        Args:
            env: The environment.
            arms: Its curves by agent.
            failures: Lines about failed seeds by agent; of agents without a curve, they stand in
                the first panel.
        """
        panels: list[Panel] = []
        for group in [g for g in self.groups if arms.keys() & set(g)] or [()]:
            shown = {agent: arms[agent] for agent in (*self.shared, *group) if agent in arms}
            told = shown.keys() | (set() if panels else failures.keys() - arms.keys())
            lines = [line for agent, line in failures.items() if agent in told]
            panels.append(Panel(env, shown, lines))
        return panels


def divide(agents: Sequence[str], runs: Sequence[RunRecord], baseline: str) -> Division:
    """Divides the agents of a figure that one panel cannot hold.

    In every panel are agents that use no labels and the baseline, or the baseline alone where
    these are too many. The others follow one another, those with most finished runs first.

    Args:
        agents: That have a curve.
        runs: Complete or failed.
        baseline: Agent that the others are compared with.
    """
    if len(agents) <= len(COLOURS):
        return Division((), (agents,))
    counts = {a: sum(r.agent == a and r.status == "complete" for r in runs) for a in agents}
    labelled = {run.agent for run in runs if run.labels}
    shared = [agent for agent in agents if agent not in labelled or agent == baseline]
    if len(shared) > len(COLOURS) // 2:
        shared = [agent for agent in shared if agent == baseline]
    others = [agent for agent in agents if agent not in shared]
    others.sort(key=lambda agent: -counts[agent])
    size = even(len(others), len(COLOURS) - len(shared))
    return Division(shared, [others[at : at + size] for at in range(0, len(others), size)])


def rows(environments: Sequence[Sequence[Panel]], columns: int) -> list[list[Panel]]:
    """Panels row by row; an environment's stay in one row where a row can hold them."""
    if all(len(panels) == 1 for panels in environments):
        columns = even(len(environments), columns)
    table: list[list[Panel]] = [[]]
    for panels in environments:
        if len(table[-1]) + len(panels) > columns and table[-1]:
            table.append([])
        for panel in panels:
            if len(table[-1]) == columns:
                table.append([])
            table[-1].append(panel)
    return table
