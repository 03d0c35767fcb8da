"""Agents and panels of figures of learning curves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib as mpl
import pytest
from helpers.results import MakeFolder, record

from mujoco_sail.analysis.choice import MissingDataError
from mujoco_sail.analysis.figures import drawing
from mujoco_sail.analysis.figures.curves import divide
from mujoco_sail.analysis.figures.style import COLOURS, PAGE
from mujoco_sail.results.pooling import collect
from mujoco_sail.results.read import RunRecord

NAMES = [f"a{i}" for i in range(8)]


def runs(agents: Sequence[str], seeds: int = 1) -> list[RunRecord]:
    return [record("ant", agent, seed, [1.0], [5]) for agent in agents for seed in range(seeds)]


def draw(results: Path, name: str = "learning_curves", **changes: Any) -> mpl.figure.Figure:
    ((path, recipe),) = drawing.load([name])
    return drawing.draw(replace(recipe, **changes), collect(results), results, path.name)


def titles(figure: mpl.figure.Figure) -> list[str]:
    return [axes.get_title("left").strip() for axes in figure.axes]


def legend(figure: mpl.figure.Figure) -> list[str]:
    return [text.get_text() for text in figure.legends[0].get_texts()]


def test_as_many_agents_as_colours_are_not_divided() -> None:
    agents = NAMES[: len(COLOURS)]
    assert divide(agents, runs(agents), "a0") == [agents]


def test_the_baseline_is_in_every_group_of_agents() -> None:
    agents = ["sac", "pebble", *NAMES[:7]]
    assert divide(agents, runs(agents), "pebble") == [
        ["pebble", "sac", *NAMES[:3]],
        ["pebble", *NAMES[3:7]],
    ]


def test_agents_with_more_finished_runs_come_first() -> None:
    failed = [replace(run, status="failed", labels=0) for run in runs(["a1"], seeds=3)]
    several = [*runs(NAMES), *runs(["a5"], seeds=2), *failed]
    assert divide(NAMES, several, "pebble") == [["a5", *NAMES[:3]], [*NAMES[3:5], "a6", "a7"]]


def test_within_a_panel_every_agent_has_its_own_colour(results: Path, make: MakeFolder) -> None:
    names = [f"b{i:02}" for i in range(20)]
    for agent in ["sac", "pebble", *names]:
        make("ant", agent, 0)
    figure = draw(results)
    assert sum(len(axes.lines) for axes in figure.axes) == 22 + 3  # pebble in each of four rows
    for axes in figure.axes:
        assert len({line.get_color() for line in axes.lines}) == len(axes.lines) <= len(COLOURS)
    lines = figure.legends[0].get_lines()
    looks = {(line.get_color(), line._unscaled_dash_pattern, line.get_marker()) for line in lines}
    assert len(looks) == 22


@pytest.mark.parametrize(
    ("count", "columns", "expected"),
    [(4, 4, [4]), (4, 3, [2, 2]), (5, 4, [3, 2]), (2, 4, [2])],
)
def test_environments_fill_rows_evenly(
    results: Path, make: MakeFolder, count: int, columns: int, expected: Sequence[int]
) -> None:
    for i in range(count):
        make(f"env{i}", "pebble", 0)
    figure = draw(results, columns=columns)
    rows = [axes.get_subplotspec().rowspan.start for axes in figure.axes]
    assert [rows.count(row) for row in sorted(set(rows))] == expected
    assert titles(figure) == [f"env{i}" for i in range(count)]


@pytest.mark.parametrize("count", [3, 4])
def test_three_or_four_panels_in_a_row_have_the_width_of_a_page(
    results: Path, make: MakeFolder, count: int
) -> None:
    for i in range(count):
        make(f"env{i}", "pebble", 0)
    assert draw(results).get_size_inches()[0] == PAGE


def test_an_agent_that_lacks_an_environment_is_among_the_other_agents(
    results: Path, make: MakeFolder
) -> None:
    for env in ("ant", "hopper", "walker2d"):
        for agent in ("sac", "pebble", "sail"):
            make(env, agent, 0, answers=() if agent == "sac" else ("1",))
    for env in ("ant", "hopper"):
        make(env, "surf", 0, answers=("1",))
    make("walker2d", "sail", 1, status="failed")
    headline, others = draw(results), draw(results, "other_agents")
    assert legend(headline) == ["sac", "pebble", "sail"]
    assert titles(headline) == ["ant", "hopper", "walker2d"]
    assert legend(others) == ["pebble", "surf"]
    assert titles(others) == ["ant", "hopper"]


def test_an_agent_whose_seeds_all_failed_somewhere_ran_there(
    results: Path, make: MakeFolder
) -> None:
    for env in ("ant", "hopper"):
        make(env, "pebble", 0)
    make("ant", "sail", 0)
    make("hopper", "sail", 0, status="failed")
    assert legend(draw(results)) == ["pebble", "sail"]
    with pytest.raises(MissingDataError, match="no agent ran in some of the environments only"):
        draw(results, "other_agents")


def test_where_no_agent_ran_everywhere_the_learning_curves_have_all(
    results: Path, make: MakeFolder
) -> None:
    make("ant", "sail", 0)
    make("hopper", "pebble", 0)
    assert legend(draw(results)) == ["pebble", "sail"]
    with pytest.raises(MissingDataError):
        draw(results, "other_agents")


def test_an_environment_has_panels_for_the_agents_that_ran_there(
    results: Path, make: MakeFolder
) -> None:
    for agent in ["pebble", *NAMES]:
        make("hopper", agent, 0)
    for agent in ("pebble", "a7"):
        make("ant", agent, 0)
    make("walker2d", "pebble", 0)
    figure = draw(results, agents="all")
    # a7 has the most runs except the baseline, so it is in the first group.
    assert titles(figure) == ["ant", "hopper", "walker2d", "hopper"]
    assert [len(axes.lines) for axes in figure.axes] == [2, 5, 1, 5]


def test_agents_of_other_environments_do_not_divide_those_that_are_drawn(
    results: Path, make: MakeFolder
) -> None:
    for agent in NAMES[:4]:
        make("hopper", agent, 0)
    for agent in NAMES:
        make("ant", agent, 1)
    assert titles(draw(results, environments="hopper", agents="all")) == ["hopper"]


def test_agents_without_a_curve_take_no_space(results: Path, make: MakeFolder) -> None:
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
