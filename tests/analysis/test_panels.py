"""Agents that one panel cannot hold are divided among several, which can be compared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib as mpl
import pytest
from helpers.results import MakeFolder, record

from mujoco_sail.analysis import figures
from mujoco_sail.analysis.panels import Panel, divide, rows
from mujoco_sail.analysis.style import COLOURS
from mujoco_sail.results.pooling import collect
from mujoco_sail.results.read import RunRecord

NAMES = [f"a{i}" for i in range(8)]


def runs(agents: Sequence[str], silent: Sequence[str] = (), seeds: int = 1) -> list[RunRecord]:
    return [
        record("ant", agent, seed, [1.0], () if agent in silent else [5])
        for agent in agents
        for seed in range(seeds)
    ]


def draw(results: Path, **changes: Any) -> mpl.figure.Figure:
    ((path, recipe),) = figures.load(["learning_curves"])
    return figures.draw(replace(recipe, **changes), collect(results), path.name)


def titles(figure: mpl.figure.Figure) -> list[str]:
    return [axes.get_title("left") for axes in figure.axes]


def test_as_many_agents_as_colours_are_not_divided() -> None:
    agents = NAMES[: len(COLOURS)]
    division = divide(agents, runs(agents), "a0")
    assert (division.shared, division.groups) == ((), (agents,))


def test_the_baseline_and_agents_without_labels_are_in_every_panel() -> None:
    agents = ["random", "sac", "pebble", *NAMES[:6]]
    division = divide(agents, runs(agents, silent=["random", "sac"]), "pebble")
    assert division.shared == ["random", "sac", "pebble"]
    assert division.groups == [NAMES[:3], NAMES[3:6]]


def test_too_many_of_them_leave_the_baseline_alone() -> None:
    silent = ["random", "sac", "sac_sb3"]
    agents = [*silent, "pebble", *NAMES[:4]]
    division = divide(agents, runs(agents, silent), "pebble")
    assert division.shared == ["pebble"]
    assert division.groups == [[*silent, "a0"], NAMES[1:4]]


def test_agents_with_more_finished_runs_come_first() -> None:
    failed = [replace(run, status="failed", labels=0) for run in runs(["a1"], seeds=3)]
    several = [*runs(NAMES), *runs(["a5"], seeds=2), *failed]
    assert divide(NAMES, several, "pebble").groups == [
        ["a5", *NAMES[:3]],
        [*NAMES[3:5], "a6", "a7"],
    ]


def test_within_a_panel_every_agent_has_its_own_colour() -> None:
    agents = ["sac", *[f"b{i:02}" for i in range(20)]]
    division = divide(agents, runs(agents, silent=["sac"]), "b00")
    looks = division.looks()
    assert sorted(looks) == sorted(agents)
    for group in division.groups:
        panel = [*division.shared, *group]
        assert len({looks[agent]["color"] for agent in panel}) == len(panel) <= len(COLOURS)
    assert len({(str(of["linestyle"]), of["marker"]) for of in looks.values()}) == len(agents)


@pytest.mark.parametrize(
    ("counts", "columns", "expected"),
    [
        ([1, 1, 1, 1], 3, [2, 2]),
        ([3, 1, 1, 3], 3, [3, 2, 3]),
        ([1, 2], 3, [3]),
        ([1, 2], 2, [1, 2]),
        ([4, 1], 3, [3, 2]),
    ],
)
def test_the_panels_of_an_environment_stay_in_a_row_that_can_hold_them(
    counts: Sequence[int], columns: int, expected: Sequence[int]
) -> None:
    environments = [[Panel(str(i), {}, [])] * count for i, count in enumerate(counts)]
    assert [len(row) for row in rows(environments, columns)] == expected
    order = [panel.env for row in rows(environments, columns) for panel in row]
    assert order == [panel.env for panels in environments for panel in panels]


def test_an_environment_has_panels_for_the_agents_that_ran_there(
    results: Path, make: MakeFolder
) -> None:
    for agent in ["pebble", *NAMES]:
        make("hopper", agent, 0)
    for agent in ("pebble", "a7"):
        make("ant", agent, 0)
    make("walker2d", "pebble", 0)
    figure = draw(results)
    # a7 has most runs beside the baseline and so is in the first group, which is hopper's first.
    assert titles(figure) == ["ant", "hopper", "hopper", "walker2d"]
    assert [len(axes.lines) for axes in figure.axes] == [2, 5, 5, 1]


def test_agents_of_other_environments_do_not_divide_those_that_are_drawn(
    results: Path, make: MakeFolder
) -> None:
    for agent in NAMES[:4]:
        make("hopper", agent, 0)
    for agent in NAMES:
        make("ant", agent, 1)
    assert titles(draw(results, environments="hopper")) == ["hopper"]


def test_agents_that_a_figure_has_no_curve_of_take_no_place(
    results: Path, make: MakeFolder
) -> None:
    for agent in [*NAMES[:7]]:
        make("ant", agent, 0, labels=(1, 1, 2), answers=("1", "0"))
    make("ant", "sac", 0, answers=())
    make("ant", "zero", 0, status="failed")
    (axes,) = draw(results, x="labels").axes
    assert len(axes.lines) == 7
    assert [text.get_text() for text in axes.texts] == ["zero: 1 of 1 seeds failed"]


def test_panels_of_an_environment_have_one_scale_with_room_for_the_lines_of_each(
    results: Path, make: MakeFolder
) -> None:
    for i, agent in enumerate(NAMES):
        make("ant", agent, 0, (-900, -800, -700 if i < 4 else 300))
    make("ant", "a1", 1, status="failed")
    make("ant", "zero", 0, status="failed")
    first, second = draw(results).axes
    assert [len(axes.texts[0].get_text().splitlines()) for axes in (first, second)] == [2, 0]
    assert first.get_ylim() == second.get_ylim()
    bottom, top = first.get_ylim()
    assert 300 < top < 400
    # Two lines, each a tenth of the height of the curves with their margins.
    assert bottom == pytest.approx(-960 - 0.2 * (top + 960))
