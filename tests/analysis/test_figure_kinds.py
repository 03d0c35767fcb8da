"""All kinds of figures, and which are drawn for which results."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest
from helpers.checkout import ROOT
from helpers.command_line import fails
from helpers.results import OTHER_FIGURES, MakeFolder

from mujoco_sail.analysis import across
from mujoco_sail.analysis.choice import MissingDataError
from mujoco_sail.analysis.figures import drawing
from mujoco_sail.cli import main
from mujoco_sail.recipes.load import recipe_names
from mujoco_sail.results.pooling import collect
from mujoco_sail.system.errors import UserError


def draw(results: Path, name: str, **changes: Any) -> mpl.figure.Figure:
    ((path, recipe),) = drawing.load([name])
    return drawing.draw(replace(recipe, **changes), collect(results), results, path.name)


def band(axes: mpl.axes.Axes, x: float) -> tuple[float, float]:
    (drawn,) = axes.collections
    ends = [float(y) for place, y in drawn.get_paths()[0].vertices if place == x]
    return min(ends), max(ends)


# --- curves ------------------------------------------------------------------------------------


def test_the_published_figures_are_what_is_drawn_today(tmp_path: Path) -> None:
    drawing.plot([], ROOT / "results/study", tmp_path, print)
    drawing.plot(["estimators"], ROOT / "results/mechanism", tmp_path, print)
    drawing.plot(["doses"], ROOT / "results/doses", tmp_path, print)
    drawing.plot(["confirmation", "dose_control"], ROOT / "results", tmp_path, print)
    drawing.plot(["controls", "label_budgets"], ROOT / "results/controls", tmp_path, print)
    drawing.plot(["learning_curves"], ROOT / "results/language", tmp_path / "language", print)
    drawn, published = (
        {
            path.relative_to(folder): path.read_bytes()
            for path in folder.rglob("*")
            if path.is_file() and path.suffix != ".toml"
        }
        for folder in (tmp_path, ROOT / "plots")
    )
    assert drawn == published
    assert Path("language/learning_curves.svg") in drawn


def test_the_centre_median_has_the_quartiles_as_band(results: Path, make: MakeFolder) -> None:
    for seed, last in enumerate((1, 2, 4, 9, 100)):
        make("hopper", "sail", seed, (0, 0, last))
    (axes,) = draw(results, "paper_curves").axes
    (line,) = axes.lines
    assert line.get_xydata().tolist() == [[100, 0], [200, 0], [300, 4]]
    assert band(axes, 300) == (2, 9)
    assert axes.get_title("right") == "n = 5"


def test_against_labels_each_number_of_labels_has_the_last_return_it_led_to(
    results: Path, make: MakeFolder
) -> None:
    steps = (100, 200, 300, 400, 500)
    for seed in range(2):
        returns = tuple(value + seed for value in (1, 2, 3, 4, 5))
        make("hopper", "sail", seed, returns, steps=steps, labels=(0, 2, 2, 3, 3))
    make("hopper", "sac", 0, (9,) * 5, steps=steps, labels=(0,) * 5, answers=())
    (axes,) = draw(results, "return_against_labels").axes
    (line,) = axes.lines  # of sail; sac uses no labels
    assert line.get_xydata().tolist() == [[0, 1.5], [2, 3.5], [3, 5.5]]
    assert (np.diff(line.get_xdata()) > 0).all()


def test_the_axis_of_labels_increases_where_seeds_differ_in_them(
    results: Path, make: MakeFolder
) -> None:
    make("hopper", "sail", 0, (1, 2, 3), labels=(1, 3, 4))
    make("hopper", "sail", 1, (10, 20, 30), labels=(2, 2, 4))
    (line,) = draw(results, "return_against_labels").axes[0].lines
    assert line.get_xydata().tolist() == [[2, 10.5], [3, 11], [4, 16.5]]


def accuracies(*values: object) -> dict[str, tuple[object, ...]]:
    return {"step": (100, 200, 300), "held_out_accuracy": values, "labels": (0, 2, 4)}


def test_held_out_accuracy_begins_where_two_seeds_have_one(results: Path, make: MakeFolder) -> None:
    make("hopper", "sail", 0, training=accuracies("", 0.5, 0.75))
    make("hopper", "sail", 1, training=accuracies("", 0.75, 1))
    make("hopper", "sac", 0, answers=(), training={"step": (100,), "labels": (0,)})
    (axes,) = draw(results, "held_out_accuracy").axes
    (line,) = axes.lines
    assert line.get_xydata().tolist() == [[200, 0.625], [300, 0.875]]
    (line,) = draw(results, "held_out_accuracy", x="labels").axes[0].lines
    assert line.get_xydata().tolist() == [[2, 0.625], [4, 0.875]]


@pytest.mark.parametrize(
    ("values", "message"),
    [(("", "high", 1), "not a finite number"), (("", "inf", 1), "not a finite number")],
)
def test_a_damaged_table_of_training_is_an_error_of_the_figure_that_reads_it(
    results: Path, make: MakeFolder, values: tuple[object, ...], message: str
) -> None:
    make("hopper", "sail", 0, training=accuracies(*values))
    with pytest.raises(UserError, match=rf"training\.csv.*held_out_accuracy.*{message}") as error:
        draw(results, "held_out_accuracy")
    assert not isinstance(error.value, MissingDataError)
    assert len(draw(results, "learning_curves").axes) == 1


def test_tables_of_training_with_other_steps_are_not_averaged(
    results: Path, make: MakeFolder
) -> None:
    make("hopper", "sail", 0, training=accuracies(0.5, 0.5, 0.5))
    make("hopper", "sail", 1, training=accuracies(0.5, 0.5, 0.5) | {"step": (100, 250, 300)})
    with pytest.raises(UserError, match=r"differ in step of row 2 of training\.csv"):
        draw(results, "held_out_accuracy")


def test_lines_about_failed_seeds_have_room_below_the_curves(
    results: Path, make: MakeFolder
) -> None:
    make("hopper", "sail", 0, (1, 2, 3))
    without = draw(results, "paper_curves").axes[0].get_ylim()
    make("hopper", "sail", 1, status="failed")
    with_line = draw(results, "paper_curves").axes[0].get_ylim()
    assert with_line[0] < without[0]
    assert with_line[1] == without[1]


# --- across environments -----------------------------------------------------------------------


@pytest.fixture
def normalised(make: MakeFolder) -> None:
    """On both environments random has the score 0 and SAC 1; those of PEBBLE and SAIL are below."""
    for env, scale in (("hopper", 10), ("walker_walk", 1000)):
        for seed in range(4):
            for agent, score, answers in (
                ("random", 0, ()),
                ("sac", 1, ()),
                ("pebble", (0.2, 0.3, 0.4, 0.5)[seed], ("1", "0")),
                ("sail", (0.2, 0.4, 0.6, 0.8)[seed], ("1", "0")),
            ):
                make(env, agent, seed, (0, 0, score * scale), answers=answers, labels=(0, 1, 2))


@pytest.mark.usefixtures("normalised")
def test_a_profile_is_the_share_of_runs_above_each_score(results: Path) -> None:
    figure = draw(results, "performance_profiles")
    (axes,) = figure.axes
    names = [text.get_text() for text in figure.legends[0].get_texts()]
    share = dict(zip(names, axes.lines, strict=True))
    assert set(share) == {"random", "sac", "pebble", "sail"}
    for name, score, expected in (
        ("sail", 0.1, 1),
        ("sail", 0.3, 0.75),
        ("sail", 0.5, 0.5),
        ("sail", 0.9, 0),
        ("pebble", 0.45, 0.25),
        ("sac", 0.99, 1),
        ("random", 0.01, 0),
    ):
        at = np.argmin(np.abs(share[name].get_xdata() - score))
        assert share[name].get_ydata()[at] == expected, (name, score)
    assert axes.get_title("right") == "2 environments, n = 4 each"


@pytest.mark.usefixtures("normalised")
def test_an_agent_that_lacks_an_environment_has_no_profile(results: Path, make: MakeFolder) -> None:
    make("hopper", "surf", 0, (0, 0, 1), answers=("1", "0"), labels=(0, 1, 2))
    figure = draw(results, "performance_profiles")
    names = [text.get_text() for text in figure.legends[0].get_texts()]
    assert names == ["random", "sac", "pebble", "sail"]
    with pytest.raises(MissingDataError, match="'surf'"):
        draw(results, "performance_profiles", agents="pebble,surf")


@pytest.mark.usefixtures("normalised")
def test_profiles_and_forests_count_failed_seeds(results: Path, make: MakeFolder) -> None:
    for env, seed in (("hopper", 4), ("hopper", 5), ("walker_walk", 4)):
        make(env, "sail", seed, (0, 0, 1), status="failed", failure="loss is nan")
    (axes,) = draw(results, "performance_profiles").axes
    assert axes.get_title("right") == "2 environments, n = 4 each, 3 failed"
    (axes,) = draw(results, "effect_sizes").axes
    counts = [text.get_text() for text in axes.texts if text.get_text().startswith("n = ")]
    assert counts == ["n = 4, 2 failed", "n = 4, 1 failed", "n = 8, 3 failed"]


@pytest.mark.usefixtures("normalised")
def test_a_forest_has_a_row_per_effect_at_its_place(results: Path) -> None:
    effects = across.effects(collect(results), "pebble")
    effects = effects[effects["agent"] == "sail"]  # the others use no labels
    (axes,) = draw(results, "effect_sizes").axes
    names = [text.get_text().strip() for text in axes.get_yticklabels()]
    assert names == ["sail", "hopper", "walker-walk", "pooled"]
    points = [line for line in axes.lines if line.get_marker() in ("s", "D")]
    ends = [line.get_xdata() for line in axes.lines if len(set(line.get_xdata())) == 2]
    np.testing.assert_allclose([line.get_xdata()[0] for line in points], effects["d"])
    np.testing.assert_allclose(ends, effects[["d_low", "d_high"]])
    assert [line.get_marker() for line in points] == ["s", "s", "D"]
    rows = [math.floor(line.get_ydata()[0]) for line in points]
    assert [names[row].replace("-", "_") for row in rows] == list(effects["environment"])
    written = [text.get_text().replace("\N{MINUS SIGN}", "-") for text in axes.texts]
    for row in effects.to_dict("records"):
        assert f"{row['d']:.2f} [{row['d_low']:.2f}, {row['d_high']:.2f}]" in written


@pytest.mark.usefixtures("normalised")
def test_an_undefined_effect_keeps_its_row(results: Path, make: MakeFolder) -> None:
    """One seed on ant, so that neither its effect nor the mean over environments is defined."""
    for agent in ("pebble", "sail"):
        make("ant", agent, 0, (0, 0, 1), answers=("1", "0"))
    (axes,) = draw(results, "effect_sizes").axes
    names = [text.get_text().strip() for text in axes.get_yticklabels()]
    assert names == ["sail", "ant", "hopper", "walker-walk", "pooled"]
    written = [text.get_text() for text in axes.texts]
    assert written[:2] == ["n = 1", "undefined"]
    assert written[-2:] == ["n = 9", "undefined"]
    assert len([line for line in axes.lines if line.get_marker() in ("s", "D")]) == 2


@pytest.mark.usefixtures("normalised")
def test_the_marker_is_filled_if_the_interval_excludes_zero(results: Path) -> None:
    (axes,) = draw(results, "effect_sizes", agents="random,sail").axes
    points = [line for line in axes.lines if line.get_marker() in ("s", "D")]
    filled = [line.get_markerfacecolor() != "white" for line in points]
    effects = across.effects(collect(results), "pebble")
    chosen = [effects[effects["agent"] == name] for name in ("random", "sail")]
    apart = [
        low > 0 or high < 0 for rows in chosen for low, high in rows[["d_low", "d_high"]].to_numpy()
    ]
    assert filled == apart
    assert len(set(apart)) == 2


# A d of 90 is too large for an interval, and so is the mean over environments.
@pytest.mark.parametrize(("far", "count"), [(0.1, 1), (90, 2)])
@pytest.mark.usefixtures("normalised")
def test_an_interval_that_leaves_the_axis_ends_in_an_arrow(
    results: Path, make: MakeFolder, far: float, count: int
) -> None:
    for seed in range(3):
        make("ant", "pebble", seed, (0, 0, seed / 100), answers=("1", "0"))
        make("ant", "sail", seed, (0, 0, far + seed / 100), answers=("1", "0"))
    (axes,) = draw(results, "effect_sizes").axes
    limit = axes.get_xlim()[1]
    assert limit < across.effects(collect(results), "pebble")[["d", "d_high"]].max().max()
    arrows = [line for line in axes.lines if line.get_marker() == ">"]
    assert [line.get_xdata()[0] for line in arrows] == [limit] * count


# --- which figures are drawn -------------------------------------------------------------------


@pytest.mark.usefixtures("normalised")
def test_all_figures_are_drawn_for_which_the_results_have_data(
    results: Path, tmp_path: Path, make: MakeFolder
) -> None:
    said: list[str] = []
    files = drawing.plot([], results, tmp_path / "first", said.append)
    drawn = {file.stem for file in files}
    lacking = {"success_rate", "held_out_accuracy"}
    assert drawn == {*recipe_names("plots")} - lacking - OTHER_FIGURES
    assert len(said) == len(lacking)
    assert all(line.startswith("left out: ") and "\n" not in line for line in said)
    make("door_open", "sail", 0, success=1.0, training=accuracies("", 0.5, 0.75))
    make("door_open", "random", 0, (0, 0, 0), answers=())
    make("door_open", "sac", 0, (1, 1, 1), answers=())
    said.clear()
    files = drawing.plot([], results, tmp_path / "second", said.append)
    assert {file.stem for file in files} - {"other_agents"} == {
        *recipe_names("plots")
    } - OTHER_FIGURES
    assert said == []


NO_DATA = ["success_rate", "performance_profiles", "held_out_accuracy"]


@pytest.mark.parametrize("name", NO_DATA)
@pytest.mark.usefixtures("three_arms")
def test_a_figure_that_is_named_and_has_no_data_is_an_error(
    results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    out = tmp_path / "out"
    options = ("--results", str(results), "--out", str(out))
    assert name in fails(capsys, "plot", name, *options)
    assert not out.exists()
    assert name in fails(capsys, "plot", "learning_curves", name, *options)


@pytest.mark.usefixtures("three_arms", "coarse")
def test_figures_that_are_not_named_are_left_out(
    results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line each names those without data; those for other results are not mentioned."""
    assert main(["plot", "--results", str(results), "--out", str(tmp_path / "out")]) == 0
    said = capsys.readouterr().err
    for name in NO_DATA:
        assert sum(f"{name}.toml" in line for line in said.splitlines()) == 1
    assert [name for name in OTHER_FIGURES if name in said] == []


def test_results_without_data_for_any_figure_are_an_error(
    results: Path, tmp_path: Path, make: MakeFolder
) -> None:
    make("hopper", "sail", 0, status="running")
    with pytest.raises(MissingDataError):
        drawing.plot([], results, tmp_path, print)


@pytest.mark.parametrize(
    ("kind", "message"), [("bars", "allowed: budgets, controls, curves"), (None, "missing key")]
)
def test_a_recipe_without_a_valid_kind_is_an_error(
    tmp_path: Path, kind: str | None, message: str
) -> None:
    recipe = tmp_path / "mine.toml"
    recipe.write_text(f'kind = "{kind}"' if kind else 'title = "t"')
    with pytest.raises(UserError, match=message):
        drawing.load([str(recipe)])


@pytest.mark.parametrize("name", sorted(OTHER_FIGURES))
@pytest.mark.usefixtures("three_arms")
def test_a_figure_for_other_results_that_is_named_is_an_error(
    results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    options = ("--results", str(results), "--out", str(tmp_path / "out"))
    assert f"{name}.toml: " in fails(capsys, "plot", name, *options)
