from __future__ import annotations

import copy
import io
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
import tomli_w

from mujoco_sail import files
from mujoco_sail.analysis import figures, stats, tables
from mujoco_sail.recipes.settings import RecipeError, build
from mujoco_sail.results.read import EVALUATIONS, FEEDBACK, collect

RUN: dict[str, Any] = {
    "status": "complete",
    "device": "cpu",
    "versions": {
        "mujoco": "3.3.0",
        "gymnasium": "1.4.0",
        "dm_control": "1.0.28",
        "metaworld": "3.1.1",
        "mujoco_sail": "0.1.0",
        "torch": "2.13.0",
    },
    "env": {
        "protocol": "quick",
        "backend": "gymnasium",
        "teacher": "oracle",
        "labels": 4,
        "oracle": {"beta": math.inf, "mistake": 0.0},
    },
    "agent": {"class": "some.package:Agent", "lambda": 1.0},
}
STEPS = (100, 200, 300)
MakeRun = Callable[..., Path]


@pytest.fixture
def results(tmp_path: Path) -> Path:
    return tmp_path / "results"


@pytest.fixture
def make(results: Path) -> MakeRun:
    """Writes a run: `make("walker", "sail", 0, [1, 2, 3], **{"env.protocol": "paper"})`."""

    def write(
        env: str,
        agent: str,
        seed: int,
        returns: tuple[float, ...] = (1, 2, 3),
        success: float | None = None,
        answers: tuple[str, ...] = ("1", "0.5", "skip", "0"),
        steps: tuple[int, ...] = STEPS,
        **changes: Any,
    ) -> Path:
        table = copy.deepcopy(RUN) | {"seed": seed}
        table["env"]["name"], table["agent"]["name"] = env, agent
        for key, value in changes.items():
            *scopes, last = key.split(".")
            inner = table
            for scope in scopes:
                inner = inner[scope]
            inner[last] = value
        folder = results / env / agent / f"seed_{seed}"
        folder.mkdir(parents=True)
        rate = "" if success is None else success
        rows = [f"{x},{y},0.5,10,{rate},4" for x, y in zip(steps, returns, strict=True)]
        asked = [f"{i},0,{i},1.0,2.0,{label}" for i, label in enumerate(answers)]
        (folder / "run.toml").write_text(tomli_w.dumps(table))
        for name, head, body in (("evaluations", EVALUATIONS, rows), ("feedback", FEEDBACK, asked)):
            (folder / f"{name}.csv").write_text("\n".join([",".join(head), *body, ""]))
        return folder

    return write


@pytest.fixture
def three_arms(make: MakeRun) -> None:
    """PEBBLE ends at 1, 2, 3, SAIL at 2, 3, 4, SAC, which asks nothing, at 5, 6, 7."""
    for seed in range(3):
        make("walker_walk", "sail", seed, (0, 0, 2 + seed))
        make("walker_walk", "pebble", seed, (0, 0, 1 + seed))
        make("walker_walk", "sac", seed, (0, 0, 5 + seed), answers=())


def compare(results: Path, baseline: str = "pebble") -> pd.DataFrame:
    return tables.comparison(collect(results), baseline).set_index(["environment", "agent"])


def refusal(results: Path) -> str:
    """The message of the error that reading the folder raises."""
    with pytest.raises(RecipeError) as error:
        collect(results)
    message = str(error.value)
    assert message.count("\n") <= 1
    return message


# --- the comparison ----------------------------------------------------------------------------


@pytest.mark.usefixtures("three_arms")
def test_row_carries_the_statistics_over_seeds(results: Path) -> None:
    row = compare(results).loc["walker_walk", "sail"]
    assert (row["protocol"], row["seeds"], row["failed"], row["labels"]) == ("quick", 3, 0, 3)
    assert row["final_return"] == row["iqm"] == 3
    assert (row["iqm_low"], row["iqm_high"]) == (2, 4)
    assert row["area_under_curve"] == pytest.approx(3 / 4)
    assert row["d"] == pytest.approx(math.sqrt(2 / math.pi))
    assert (row["d_low"], row["d_high"]) == stats.effect_interval([2, 3, 4], [1, 2, 3])
    assert row["improvement"] == pytest.approx((6 + 2 / 2) / 9)
    assert row["improvement_low"] < row["improvement"] < row["improvement_high"] == 1
    assert math.isnan(row["success_rate"])


@pytest.mark.usefixtures("three_arms")
def test_agents_without_labels_come_first_then_the_baseline(results: Path) -> None:
    assert [agent for _, agent in compare(results).index] == ["sac", "pebble", "sail"]
    assert [agent for _, agent in compare(results, "sail").index] == ["sac", "sail", "pebble"]


@pytest.mark.usefixtures("three_arms")
def test_effect_is_undefined_for_the_baseline_and_without_one(results: Path) -> None:
    effects = ["d", "d_low", "d_high", "improvement"]
    assert compare(results).loc[("walker_walk", "pebble"), effects].isna().all()
    assert compare(results, "ppo")[effects].isna().all(axis=None)
    assert "no finished run of the baseline ppo in: walker_walk" in tables.table(
        results, "md", "ppo"
    )


@pytest.mark.usefixtures("three_arms")
def test_failed_seeds_are_counted_and_statistics_are_over_the_others(
    results: Path, make: MakeRun
) -> None:
    make("walker_walk", "sail", 3, (0, 0, 1e9), status="failed", failure="loss\nis \x1b[31mnan")
    row = compare(results).loc["walker_walk", "sail"]
    assert (row["seeds"], row["failed"], row["final_return"]) == (3, 1, 3)
    text = tables.table(results, "md", "pebble")
    assert " 3 (1 failed) |" in text
    assert "failed: walker_walk/sail/seed_3: loss is ?[31mnan" in text


def test_agent_all_of_whose_seeds_failed_keeps_its_row(results: Path, make: MakeRun) -> None:
    make("ant", "sail", 0, status="failed")
    row = compare(results).loc["ant", "sail"]
    assert (row["seeds"], row["failed"]) == (0, 1)
    assert math.isnan(row["iqm"])
    line = tables.table(results, "md", "pebble").splitlines()[2]
    assert [cell.strip() for cell in line.split("|")[4:-1]] == ["0 (1 failed)", *"-----"]


@pytest.mark.usefixtures("three_arms")
def test_running_runs_are_listed_apart_and_may_be_half_written(
    results: Path, make: MakeRun
) -> None:
    before = compare(results)
    folder = make("walker_walk", "sail", 3, status="running", **{"env.protocol": "paper"})
    (folder / "evaluations.csv").write_text("step,epis")
    pd.testing.assert_frame_equal(compare(results), before)
    text = tables.table(results, "md", "pebble")
    assert "incomplete, not counted: walker_walk/sail/seed_3" in text


@pytest.mark.usefixtures("three_arms")
def test_row_does_not_depend_on_its_neighbours(results: Path, make: MakeRun) -> None:
    before = compare(results).loc["walker_walk", "sail"]
    make("ant", "sail", 0)
    make("walker_walk", "another", 0)
    pd.testing.assert_series_equal(compare(results).loc["walker_walk", "sail"], before)


def test_success_rate_is_the_mean_of_the_last_tenth(results: Path, make: MakeRun) -> None:
    make("door_open", "sail", 0, success=0.5)
    make("door_open", "sail", 1, success=1.0)
    assert compare(results).loc[("door_open", "sail"), "success_rate"] == 0.75


# --- as text -----------------------------------------------------------------------------------


@pytest.mark.usefixtures("three_arms")
def test_markdown_is_aligned_and_shows_dashes(results: Path) -> None:
    lines = tables.table(results, "md", "pebble").split("\n\n")[0].splitlines()
    assert len({len(line) for line in lines}) == 1
    cells = {line.split("|")[2].strip(): line.split("|") for line in lines}
    assert cells["sail"][7].strip() == "3.00 [2.00, 4.00]"
    assert cells["sail"][8].strip().startswith("0.80 [-")
    assert cells["pebble"][8].strip() == cells["sail"][9].strip() == "-"


@pytest.mark.usefixtures("three_arms")
def test_csv_has_plain_numbers_that_read_back(results: Path) -> None:
    frame = tables.comparison(collect(results), "pebble")
    read = pd.read_csv(io.StringIO(tables.render(frame, "csv")))
    assert tuple(read) == tables.COLUMNS
    numeric = read.drop(columns=["environment", "agent", "protocol", "baseline"])
    assert all(dtype.kind in "if" for dtype in numeric.dtypes)
    np.testing.assert_allclose(read["d_low"], frame["d_low"], rtol=1e-9)


@pytest.mark.usefixtures("three_arms")
def test_latex_escapes_names_and_fills_every_column(results: Path) -> None:
    lines = tables.table(results, "latex", "a_b").splitlines()
    rows = [line for line in lines if line.endswith(r"\\")]
    assert lines[0] == r"\begin{tabular}{lllrrrrrr}"
    assert {row.count(" & ") for row in rows} == {8}
    assert r"d vs a\_b [95 \% interval]" in rows[0]
    assert r"walker\_walk & sac & quick & 3 & 0 & 6.00 & 6.00 [5.00, 7.00] & -- & --" in rows[1]


@pytest.mark.usefixtures("three_arms")
def test_latex_writes_minus_signs_and_not_hyphens(results: Path) -> None:
    assert "[$-$" in tables.table(results, "latex", "pebble")


@pytest.mark.usefixtures("three_arms")
def test_unknown_format_names_the_nearest(results: Path) -> None:
    with pytest.raises(RecipeError, match="did you mean 'latex'"):
        tables.table(results, "latx", "pebble")


# --- what may be pooled ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("env.protocol", "paper"),
        ("env.backend", "envpool"),
        ("env.teacher", "noisy"),
        ("env.oracle.beta", 1.0),
        ("env.labels", 5),
        ("env.extra", "key"),
        ("versions.mujoco", "3.3.1"),
        ("versions.gymnasium", "1.5.0"),
        ("versions.dm_control", "1.0.29"),
        ("versions.metaworld", "3.2.0"),
        ("versions.envpool", "1.2.5"),
        ("versions.mujoco_sail", "0.2.0"),
    ],
)
@pytest.mark.usefixtures("three_arms")
def test_environment_is_never_pooled_over(
    results: Path, make: MakeRun, key: str, value: object
) -> None:
    folder = make("walker_walk", "zeta", 0, **{key: value})
    message = refusal(results)
    scope, _, rest = key.partition(".")
    common = "(absent)" if rest in ("extra", "envpool") else None
    if common is None:
        common = RUN[scope]["oracle"]["beta"] if "oracle" in key else RUN[scope][rest]
    for part in (folder, results / "walker_walk" / "pebble" / "seed_0", f"{key}:"):
        assert str(part) in message
    assert {repr(value), repr(common)} <= set(message.split("\n")[1].replace(";", "").split())


@pytest.mark.usefixtures("three_arms")
def test_other_environments_and_devices_are_no_obstacle(results: Path, make: MakeRun) -> None:
    make("ant", "sail", 0, **{"env.protocol": "paper", "agent.lambda": 2.0})
    make("walker_walk", "sail", 3, device="cuda", **{"versions.torch": "2.14.0"})
    assert len(collect(results)) == 11


@pytest.mark.usefixtures("three_arms")
def test_seeds_of_an_agent_share_every_hyperparameter(results: Path, make: MakeRun) -> None:
    make("walker_walk", "sail", 3, **{"agent.lambda": 2.0})
    message = refusal(results)
    assert "sail/seed_0" in message
    assert "sail/seed_3 differ in agent.lambda:\n1.0 and 2.0" in message


@pytest.mark.parametrize("agent", ["sail", "another"])
@pytest.mark.usefixtures("three_arms")
def test_arms_that_ask_have_used_equally_many_labels(
    results: Path, make: MakeRun, agent: str
) -> None:
    make("walker_walk", agent, 3, answers=("1", "skip", "0"))
    assert "differ in labels used:\n3 and 2;" in refusal(results).replace("2 and 3", "3 and 2")


@pytest.mark.usefixtures("three_arms")
def test_seed_without_any_label_is_no_seed_of_an_arm_that_asks(
    results: Path, make: MakeRun
) -> None:
    make("walker_walk", "sail", 3, answers=("skip",))
    assert "labels used" in refusal(results)


@pytest.mark.usefixtures("three_arms")
def test_evaluations_at_other_steps_are_refused(results: Path, make: MakeRun) -> None:
    make("walker_walk", "sail", 3, steps=(100, 201, 300))
    assert "step of evaluation 2" in refusal(results)


# --- damaged and strange folders ---------------------------------------------------------------


def test_empty_or_missing_folder_says_what_to_run(results: Path) -> None:
    assert f"{results}: no results here; first run" in refusal(results)
    results.mkdir()
    assert "mujoco-sail run --env" in refusal(results)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("run.toml", None),
        ("run.toml", "status = "),
        ("run.toml", "x = " + "[" * 5000),
        ("run.toml", "\xff\xfe"),
        ("run.toml", "status = 'complete'"),
        ("run.toml", "status = 'done'\n[env]\n[agent]\n[versions]"),
        ("run.toml", "status = 'complete'\nseed = '0'\n[env]\n[agent]\n[versions]"),
        ("evaluations.csv", None),
        ("evaluations.csv", ""),
        ("evaluations.csv", "step,episode_return\n1,2\n"),
        ("evaluations.csv", ",".join(EVALUATIONS)),
        ("evaluations.csv", ",".join(EVALUATIONS) + "\n1,many,0,1,,0"),
        ("evaluations.csv", ",".join(EVALUATIONS) + "\n1,inf,0,1,,0"),
        ("evaluations.csv", ",".join(EVALUATIONS) + "\n1,2,0,1,most,0"),
        ("evaluations.csv", ",".join(EVALUATIONS) + "\n1,2,0,1,,0,9,9"),
        ("evaluations.csv", ",".join(EVALUATIONS) + "\n1,2,0"),
        ("evaluations.csv", ",".join(EVALUATIONS) + "\n2,1,0,1,,0\n1,1,0,1,,0"),
        ("feedback.csv", None),
        ("feedback.csv", "step,label\n1,1\n"),
        ("feedback.csv", ",".join(FEEDBACK) + "\n1,0,0,1,2,0.7"),
        ("feedback.csv", ",".join(FEEDBACK) + "\n1,0,0,1,2,"),
        ("feedback.csv", ",".join(FEEDBACK) + "\n1,0,0,1,2,__import__('os')"),
    ],
)
def test_damaged_file_is_an_error_that_names_it(
    results: Path, make: MakeRun, name: str, content: str | None
) -> None:
    file = make("ant", "sail", 0) / name
    file.unlink()
    if content is not None:
        file.write_bytes(content.encode("latin-1"))
    assert refusal(results).startswith(f"{file}: ")


def test_copied_run_does_not_count_as_another_seed(results: Path, make: MakeRun) -> None:
    folder = make("ant", "sail", 0)
    folder.rename(folder.with_name("seed_1"))
    assert "is of ant/sail/seed_0, and lies in ant/sail/seed_1" in refusal(results)


def test_seed_is_a_whole_number(results: Path, make: MakeRun) -> None:
    folder = make("ant", "sail", 0)
    text = (folder / "run.toml").read_text()
    (folder / "run.toml").write_text(text.replace("seed = 0", 'seed = "0"'))
    assert "run.toml" in refusal(results)


# --- figures -----------------------------------------------------------------------------------

RECIPE = build(
    figures.FigureRecipe,
    {
        "title": "A figure",
        "metric": "episode_return",
        "environments": "all",
        "agents": "all",
        "x_label": "steps",
        "y_label": "return",
        "columns": 2,
    },
    "RECIPE",
)


def draw(results: Path, **changes: Any) -> mpl.figure.Figure:
    return figures.draw(replace(RECIPE, **changes), collect(results), "figure.toml")


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
def test_panel_says_how_many_seeds_and_which_failed(results: Path, make: MakeRun) -> None:
    make("walker_walk", "sail", 3, status="failed")
    make("walker_walk", "pebble", 3)
    (axes,) = draw(results).axes
    assert axes.get_title("right") == "n = 3 to 4"
    assert [text.get_text() for text in axes.texts] == ["sail: 1 of 4 seeds failed"]


def test_environment_where_everything_failed_keeps_its_panel(results: Path, make: MakeRun) -> None:
    make("ant", "sail", 0, status="failed")
    make("hopper", "sail", 0)
    ant, hopper = draw(results).axes
    assert (ant.get_title("left"), ant.get_title("right")) == ("ant", "n = 0")
    assert (len(ant.lines), len(hopper.lines)) == (0, 1)


def test_success_rate_is_drawn_where_the_task_has_one(results: Path, make: MakeRun) -> None:
    make("door_open", "sail", 0, success=0.5)
    make("walker_walk", "sail", 0)
    make("walker_walk", "sail", 1, status="failed")
    (axes,) = draw(results, metric="success_rate").axes
    assert axes.get_title("left") == "door-open"
    with pytest.raises(RecipeError, match="nothing to draw of 'walker_walk'"):
        draw(results, metric="success_rate", environments="walker_walk")


@pytest.mark.usefixtures("three_arms")
def test_agent_looks_the_same_in_the_legend_and_in_every_panel(
    results: Path, make: MakeRun
) -> None:
    make("ant", "sail", 0, (7, 7, 7))
    figure = draw(results)
    colour = {line.get_label(): line.get_color() for line in figure.legends[0].get_lines()}
    assert list(colour) == ["sac", "pebble", "sail"]
    ant, walker = figure.axes
    assert list(curves(ant)) == [colour["sail"]]
    assert curves(walker)[colour["sail"]][-1, 1] == 3


def test_looks_of_many_agents_differ_and_colours_stay_apart_in_grey() -> None:
    looks = [tuple(figures._style(index).values()) for index in range(30)]
    assert len(set(looks)) == 30
    rgb = np.array([mpl.colors.to_rgb(colour) for colour in figures.COLOURS])
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
    with pytest.raises(RecipeError, match=nearest):
        draw(results, **changes)


@pytest.mark.usefixtures("three_arms")
def test_plots_are_the_same_bytes_every_time_and_leave_nothing_else(
    results: Path, tmp_path: Path
) -> None:
    parameters = dict(mpl.rcParams)
    once = figures.plot([], results, tmp_path / "once")
    again = figures.plot(["learning_curves"], results, tmp_path / "again")
    assert [file.name for file in once] == ["learning_curves.png", "learning_curves.svg"]
    assert sorted((tmp_path / "once").iterdir()) == once
    assert [file.read_bytes() for file in once] == [file.read_bytes() for file in again]
    assert dict(mpl.rcParams) == parameters


@pytest.mark.usefixtures("three_arms")
def test_unknown_figure_names_the_nearest(results: Path, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="did you mean 'learning_curves'"):
        figures.plot(["learning_curve"], results, tmp_path)


def test_plot_without_results_says_what_to_run(results: Path, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="mujoco-sail run"):
        figures.plot([], results, tmp_path)


@pytest.mark.usefixtures("three_arms")
def test_folder_that_cannot_be_written_is_named(results: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(RecipeError, match=r"learning_curves\.png: cannot be written"):
        figures.plot([], results, tmp_path / "file")


# --- whole files -------------------------------------------------------------------------------


def test_interrupted_write_leaves_the_old_file_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "new" / "file.txt"
    files.write_text(file, "old ä\n")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        files.write_text(file, "new\n")
    assert list(file.parent.iterdir()) == [file]
    assert file.read_bytes() == "old ä\n".encode()
