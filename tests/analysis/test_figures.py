"""Figures of learning curves: numbers, styles and reproducible bytes."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest
from helpers.command_line import program
from helpers.results import MakeFolder

from mujoco_sail.analysis.figures import drawing, fonts, style
from mujoco_sail.analysis.figures.curves import CurvesRecipe
from mujoco_sail.recipes.load import recipe_folder
from mujoco_sail.recipes.settings import build
from mujoco_sail.results.pooling import collect
from mujoco_sail.system.errors import UserError
from mujoco_sail.system.files import WriteError

RECIPE = build(
    CurvesRecipe,
    {
        "kind": "curves",
        "title": "A figure",
        "caption": "What it shows.",
        "metric": "episode_return",
        "x": "step",
        "centre": "mean",
        "environments": "all",
        "agents": "all",
        "baseline": "pebble",
        "x_label": "steps",
        "y_label": "return",
        "columns": 2,
    },
    "RECIPE",
)


def draw(results: Path, **changes: Any) -> mpl.figure.Figure:
    return drawing.draw(replace(RECIPE, **changes), collect(results), results, "figure.toml")


def curves(axes: mpl.axes.Axes) -> dict[str, np.ndarray]:
    return {line.get_color(): np.array(line.get_xydata()) for line in axes.lines}


@pytest.mark.usefixtures("three_arms")
def test_curve_is_the_mean_over_seeds_and_its_band_their_interval(results: Path) -> None:
    (axes,) = draw(results, agents="sail").axes
    (curve,) = curves(axes).values()
    np.testing.assert_allclose(curve, [[100, 0], [200, 0], [300, 3]])
    (band,) = axes.collections
    ends = [y for x, y in band.get_paths()[0].vertices if x == 300]
    assert (min(ends), max(ends)) == (2, 4)


@pytest.mark.usefixtures("three_arms")
def test_a_panel_states_the_number_of_seeds_and_of_failed_ones(
    results: Path, make: MakeFolder
) -> None:
    make("walker_walk", "sail", 3, status="failed")
    make("walker_walk", "pebble", 3)
    (axes,) = draw(results).axes
    assert axes.get_title("right") == "n = 3 to 4"
    assert [text.get_text() for text in axes.texts] == ["sail: 1 of 4 seeds failed"]


def test_an_environment_with_only_failed_runs_has_a_panel(results: Path, make: MakeFolder) -> None:
    make("ant", "sail", 0, status="failed")
    make("hopper", "sail", 0)
    ant, hopper = draw(results).axes
    assert (ant.get_title("left"), ant.get_title("right")) == ("ant", "n = 0")
    assert (len(ant.lines), len(hopper.lines)) == (0, 1)


def test_success_rate_is_drawn_where_the_task_has_one(results: Path, make: MakeFolder) -> None:
    make("door_open", "sail", 0, success=0.5)
    make("walker_walk", "sail", 0)
    make("walker_walk", "sail", 1, status="failed")
    (axes,) = draw(results, metric="success_rate").axes
    assert axes.get_title("left") == "door-open"
    with pytest.raises(UserError, match="nothing to draw of 'walker_walk'"):
        draw(results, metric="success_rate", environments="walker_walk")


@pytest.mark.usefixtures("three_arms")
def test_agent_looks_the_same_in_the_legend_and_in_every_panel(
    results: Path, make: MakeFolder
) -> None:
    make("ant", "sail", 0, (7, 7, 7))
    figure = draw(results)
    colour = {line.get_label(): line.get_color() for line in figure.legends[0].get_lines()}
    assert list(colour) == ["sac", "pebble", "sail"]
    ant, walker = figure.axes
    assert list(curves(ant)) == [colour["sail"]]
    assert curves(walker)[colour["sail"]][-1, 1] == 3


def test_more_agents_than_colours_have_several_rows_of_panels(
    results: Path, make: MakeFolder
) -> None:
    names = [f"agent{i}" for i in range(8)]
    for agent, last in zip(["sac", "pebble", *names], range(10), strict=True):
        make("ant", agent, 0, (0, 0, last), answers=() if agent == "sac" else ("1",))
    for agent in ("pebble", "agent7"):
        make("hopper", agent, 0)
    figure = draw(results)
    colour = {line.get_label(): line.get_color() for line in figure.legends[0].get_lines()}
    # The agent with two runs comes before those with one.
    first, second = ["pebble", "agent7", "sac", *names[:3]], names[3:7]
    assert list(colour) == [*first, *second]
    assert [axes.get_title("left") for axes in figure.axes] == ["ant", "hopper", "ant"]
    ant, hopper, below = figure.axes
    for axes, group in ((ant, first), (below, ["pebble", *second])):
        last = {curve: xy[-1, 1] for curve, xy in curves(axes).items()}
        values = {"sac": 0, "pebble": 1} | {name: 2 + int(name[-1]) for name in names}
        assert last == {colour[agent]: values[agent] for agent in group}
        assert len(last) == len(axes.lines)  # no two of the same colour
    assert ant.get_ylim() == below.get_ylim()
    assert list(curves(hopper)) == [colour["pebble"], colour["agent7"]]


def test_styles_of_many_agents_differ_and_colours_differ_in_greyscale() -> None:
    looks = [tuple(style.look(index).values()) for index in range(30)]
    assert len(set(looks)) == 30
    assert len({tuple(style.look(index, 0).values()) for index in range(45)}) == 45
    rgb = np.array([mpl.colors.to_rgb(colour) for colour in style.COLOURS])
    lightness = 116 * np.cbrt(np.maximum(rgb**2.2 @ [0.2126, 0.7152, 0.0722], 1e-3)) - 16
    assert (np.diff(lightness) > 7).all()


@pytest.mark.parametrize(
    ("changes", "nearest"),
    [({"agents": "sial"}, "did you mean 'sail'"), ({"environments": "walker_wlk"}, "walker_walk")],
)
@pytest.mark.usefixtures("three_arms")
def test_recipe_that_names_what_is_not_there_is_an_error(
    results: Path, changes: dict[str, str], nearest: str
) -> None:
    with pytest.raises(UserError, match=nearest):
        draw(results, **changes)


@pytest.mark.usefixtures("three_arms")
def test_plots_are_byte_identical_and_no_other_files_are_left(
    results: Path, tmp_path: Path
) -> None:
    parameters = dict(mpl.rcParams)
    once, again = (
        drawing.plot(["learning_curves"], results, tmp_path / name, print)
        for name in ("once", "again")
    )
    assert [file.name for file in once] == ["learning_curves.png", "learning_curves.svg"]
    assert sorted((tmp_path / "once").iterdir()) == once
    assert [file.read_bytes() for file in once] == [file.read_bytes() for file in again]
    assert dict(mpl.rcParams) == parameters


@pytest.mark.parametrize("variable", ["MPLBACKEND", "MATPLOTLIBRC"])
@pytest.mark.usefixtures("three_arms")
def test_what_matplotlib_is_set_to_for_other_programs_does_not_matter(
    results: Path, tmp_path: Path, variable: str
) -> None:
    set_to = {"MPLBACKEND": "not_installed", "MATPLOTLIBRC": str(tmp_path)}
    (tmp_path / "matplotlibrc").write_text("backend: not_installed\nfont.size: 99\nno.such: 1\n")
    words = ("plot", "effect_sizes", "--results", str(results), "--out", str(tmp_path / "out"))
    done = program(*words, env={**os.environ, variable: set_to[variable]})
    assert (done.returncode, done.stderr) == (0, "")
    usual = drawing.plot(["effect_sizes"], results, tmp_path / "usual", print)
    assert [(tmp_path / "out" / f.name).read_bytes() for f in usual] == [
        file.read_bytes() for file in usual
    ]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("found", [False, True])
@pytest.mark.usefixtures("three_arms")
def test_letters_come_from_a_font_that_has_them_or_one_line_names_them(
    results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, found: bool
) -> None:
    """A stand-in: STIXSizeFiveSym has a bracket that DejaVu Sans has not."""
    letter = "\u23b4" if found else "\u4e2d"
    names = ["DejaVu Serif", "STIXSizeFiveSym", "cmr10"]
    monkeypatch.setattr(fonts, "_names", lambda: names)
    (tmp_path / "mine.toml").write_text(
        recipe_folder("plots")
        .joinpath("effect_sizes.toml")
        .read_text()
        .replace('title = "', f'title = "{letter} ')
    )
    lines: list[str] = []
    drawing.plot([str(tmp_path / "mine.toml")], results, tmp_path, lines.append)
    line = f"{tmp_path}/mine.toml: boxes stand for letters that no font here has: \u4e2d"
    assert lines == ([] if found else [line])


@pytest.mark.usefixtures("three_arms")
def test_unknown_figure_names_the_nearest(results: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="did you mean 'learning_curves'"):
        drawing.plot(["learning_curve"], results, tmp_path, print)


def test_plot_without_results_says_what_to_run(results: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="mujoco-sail run"):
        drawing.plot([], results, tmp_path, print)


def test_what_pools_environments_is_left_out_where_they_cannot_be_pooled(
    results: Path, tmp_path: Path, make: MakeFolder
) -> None:
    for env, protocol in (("walker_walk", "quick"), ("cheetah_run", "study")):
        for agent in ("s_0", "pebble", "sail"):
            for seed in range(2):
                make(env, agent, seed, (0, 0, seed), **{"env.protocol": protocol})
    said: list[str] = []
    files = drawing.plot([], results, tmp_path, said.append)
    drawn = {file.stem for file in files}
    assert drawn == {"learning_curves", "paper_curves", "return_against_labels"}
    for name in ("effect_sizes", "doses"):
        (line,) = (line for line in said if f"{name}.toml" in line)
        assert line.endswith("such results are never pooled")


def test_an_error_of_the_program_is_not_taken_for_a_faulty_text(
    results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise ValueError("shapes differ")

    monkeypatch.setattr(drawing, "draw", fail)
    ((path, recipe),) = drawing.load(["doses"])
    with pytest.raises(ValueError, match=r"^shapes differ$"):
        drawing.render(recipe, [], results, path)


@pytest.mark.usefixtures("three_arms")
def test_mathematics_that_cannot_be_parsed_is_an_error_that_names_the_recipe(
    results: Path,
) -> None:
    ((path, recipe),) = drawing.load(["learning_curves"])
    with pytest.raises(UserError, match=r"learning_curves\.toml: cannot be drawn: "):
        drawing.render(replace(recipe, title="$x_$"), collect(results), results, path)


@pytest.mark.usefixtures("three_arms")
def test_folder_that_cannot_be_written_is_named(results: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(WriteError, match=r"effect_sizes\.png: cannot be written"):
        drawing.plot([], results, tmp_path / "file", print)
