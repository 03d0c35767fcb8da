"""Control experiments: arms may differ only in the keys that the recipe declares."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest
from helpers.checkout import ROOT
from helpers.command_line import fails
from helpers.results import write_run

from mujoco_sail.analysis import controls
from mujoco_sail.analysis.choice import MissingDataError, NotApplicableError
from mujoco_sail.analysis.controls import Arms, Contrast, Scale
from mujoco_sail.analysis.figures import drawing
from mujoco_sail.cli import main
from mujoco_sail.system.errors import UserError

T = 12.7062  # 97.5 % quantile of Student's t with one degree of freedom
SCALE = Scale(folder="many", differs="env.labels")
FEW = Contrast(
    arm="few/pebble", against="many/pebble", predicted="worse", differs="env.labels, env.seen"
)
TEACHER = replace(FEW, arm="noisy/pebble", predicted="better", differs="env.teacher, env.oracle.*")


def arm(
    folder: Path, agent: str, finals: Sequence[float], env: str = "ant", **changes: Any
) -> None:
    """Runs with a constant return, one per seed."""
    answers = ("1",) * changes.get("env.labels", 4) if agent == "pebble" else ()
    for seed, final in enumerate(finals):
        write_run(folder, env, agent, seed, (final,) * 3, answers=answers, **changes)


@pytest.fixture
def folder(results: Path) -> Path:
    """random has 0, sac 100; `few` exceeds `many` by 10 and 30, the noisy teacher by 20 and 20."""
    arm(results / "many", "random", [0, 0])
    arm(results / "many", "sac", [90, 110])
    arm(results / "many", "pebble", [20, 40])
    arm(results / "few", "pebble", [30, 70], **{"env.labels": 2})
    arm(results / "noisy", "pebble", [60, 40], **{"env.teacher": "noisy", "env.oracle.beta": 1.0})
    return results


def compare(folder: Path, **comparisons: Contrast) -> list[dict[Any, Any]]:
    return controls.compare(comparisons, SCALE, Arms(folder, "R")).to_dict("records")


def test_a_comparison_is_the_mean_of_paired_differences_over_the_gain(folder: Path) -> None:
    auc, final = compare(folder, few=FEW)
    for row in (auc, final):
        ends = [row["share"], row["share_low"], row["share_high"]]
        assert ends == pytest.approx([0.2, 0.2 - T * 0.1, 0.2 + T * 0.1], abs=1e-4)
        assert (row["agent"], row["baseline"]) == ("few", "many/pebble")
        assert (row["environment"], row["n_pairs"], row["predicted"]) == ("ant", 2, "worse")
        assert row["differs"] == "env.labels"  # and not env.seen, which no run has
    assert (auc["metric"], final["metric"]) == ("auc", "final")


def test_holm_corrects_all_comparisons_of_a_metric(folder: Path) -> None:
    first, _, second, _ = compare(folder, few=FEW, noisy=TEACHER)
    assert first["p"] == pytest.approx(0.2952, abs=1e-4)  # t = 2, one degree of freedom
    assert second["p"] == pytest.approx(0.5, abs=1e-4)  # 40 and 0: t = 1
    assert first["p_holm"] == second["p_holm"] == pytest.approx(0.5903, abs=1e-4)
    assert second["differs"] == "env.teacher, env.oracle.beta"


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"env.backend": "envpool"}, "env.backend"),
        ({"versions.mujoco": "3.2.0"}, r"versions\.mujoco"),
        ({"agent.lambda": 2.0}, "agent.lambda"),
        ({"env.new": 1}, "env.new"),
    ],
)
def test_arms_that_differ_in_other_keys_are_an_error_that_names_the_key(
    folder: Path, changes: dict[str, Any], key: str
) -> None:
    arm(folder / "other", "pebble", [30, 70], **{"env.labels": 2}, **changes)
    with pytest.raises(UserError, match=rf"other.*many.* differ in {key}:\n.*env\.labels, env"):
        compare(folder, few=replace(FEW, arm="other/pebble"))


def test_arms_evaluated_at_other_steps_are_an_error(folder: Path) -> None:
    for seed in range(2):
        write_run(folder / "late", "ant", "pebble", seed, steps=(100, 200, 400))
    with pytest.raises(UserError, match="differ in step of evaluation 3"):
        compare(folder, late=replace(FEW, arm="late/pebble"))


def test_random_and_sac_must_be_of_the_same_task(folder: Path) -> None:
    arm(folder / "wind", "random", [0, 0], **{"env.wind": 1})
    arm(folder / "wind", "sac", [90, 110], **{"env.wind": 1})
    scale = replace(SCALE, folder="wind")
    with pytest.raises(UserError, match=r"differ in env\.wind"):
        controls.compare({"few": FEW}, scale, Arms(folder, "R"))
    controls.compare({"few": FEW}, replace(scale, differs="env.wind"), Arms(folder, "R"))


@pytest.mark.parametrize("name", ["sac", "random", "against"])
def test_a_comparison_with_the_name_of_another_arm_is_an_error(folder: Path, name: str) -> None:
    with pytest.raises(UserError, match=f"^R: a comparison cannot have the name '{name}'$"):
        compare(folder, **{name: FEW})


def test_seeds_with_a_failed_run_of_either_arm_are_counted(folder: Path) -> None:
    for place, seed in (("few", 2), ("few", 3), ("many", 3), ("many", 4)):
        labels = {"env.labels": 2} if place == "few" else {}
        write_run(folder / place, "ant", "pebble", seed, status="failed", **labels)
    assert [row["failed"] for row in compare(folder, few=FEW, noisy=TEACHER)] == [3, 3, 2, 2]


def test_a_folder_without_runs_has_no_agents(folder: Path) -> None:
    (folder / "empty").mkdir()
    arms = Arms(folder, "R")
    assert arms.agents("empty") == []
    with pytest.raises(MissingDataError, match="R: no finished run of 'empty/pebble'"):
        arms.of("empty/pebble")


def test_errors_name_an_arm_without_runs_and_a_missing_folder(folder: Path) -> None:
    arm(folder / "few", "surf", [])
    with pytest.raises(MissingDataError, match="R: no finished run of 'few/surf'"):
        compare(folder, surf=replace(FEW, arm="few/surf"))
    with pytest.raises(NotApplicableError, match=r"R: no folder .*none"):
        compare(folder, few=replace(FEW, arm="none/pebble"))


def test_budgets_are_means_on_the_scale_from_random_to_sac(folder: Path) -> None:
    arms = Arms(folder, "R")
    table = controls.budgets(["few", "many"], ["pebble"], "env.labels", SCALE, arms)
    few, many = table[table["metric"] == "auc"].to_dict("records")
    assert (few["labels"], many["labels"]) == (2, 4)
    assert (few["agent"], few["environment"], few["seeds"]) == ("pebble", "ant", 2)
    ends = [few["score"], few["low"], few["high"]]
    assert ends == pytest.approx([0.5, 0.5 - T * 0.2, 0.5 + T * 0.2], abs=1e-4)
    assert many["score"] == pytest.approx(0.3)
    with pytest.raises(UserError, match=r"differ in env\.labels"):
        controls.budgets(["few", "many"], ["pebble"], "env.steps", SCALE, arms)
    with pytest.raises(MissingDataError, match="no finished run of surf"):
        controls.budgets(["few"], ["surf"], "env.labels", SCALE, arms)


def test_there_is_no_score_if_sac_is_not_above_random(results: Path) -> None:
    for agent in ("random", "sac", "pebble"):
        arm(results / "many", agent, [1, 2])
    (row, _) = controls.budgets(["many"], ["pebble"], "", SCALE, Arms(results, "R")).to_dict(
        "records"
    )
    assert math.isnan(row["score"])


# --- figures -----------------------------------------------------------------------------------


def draw(folder: Path, name: str, **changes: Any) -> mpl.figure.Figure:
    ((path, recipe),) = drawing.load([name])
    return drawing.draw(replace(recipe, scale=SCALE, **changes), [], folder, path.name)


def test_every_comparison_has_a_row_below_what_it_is_compared_with(folder: Path) -> None:
    other = replace(FEW, arm="many/pebble", against="few/pebble")
    figure = draw(folder, "controls", comparisons={"few": FEW, "noisy": TEACHER, "back": other})
    (axes,) = figure.axes
    rows = [text.get_text() for text in axes.get_yticklabels()]
    assert rows == [
        "against many/pebble",
        "few (predicted: worse)\nenv.labels, env.seen",
        "noisy (predicted: better)\nenv.teacher, env.oracle.*",
        "against few/pebble",
        "back (predicted: worse)\nenv.labels, env.seen",
    ]
    texts = [text.get_text() for text in axes.texts]
    assert texts[0] == "n = 2"
    assert texts[1].startswith("0.20 [")
    marks = [line for line in axes.lines if line.get_marker() == "s"]
    assert [tuple(line.get_xydata()[0]) for line in marks] == [
        pytest.approx((share, y), abs=1e-9) for share, y in ((0.2, 1), (0.2, 2), (-0.2, 4))
    ]
    (row, *_) = compare(folder, few=FEW)
    detectable = next(line for line in axes.lines if line.get_linewidth() == 9)
    assert list(detectable.get_xdata()) == [-row["detectable_share"], row["detectable_share"]]


def rows_of(figure: mpl.figure.Figure) -> list[str]:
    return [text.get_text() for text in figure.axes[0].get_yticklabels()]


def test_headings_are_drawn_once_with_all_of_their_comparisons(folder: Path) -> None:
    back = replace(FEW, arm="many/pebble", against="few/pebble")
    missing = replace(FEW, arm="more/pebble", predicted="better")
    comparisons = {"few": FEW, "more": missing, "back": back, "noisy": TEACHER}
    assert rows_of(draw(folder, "controls", comparisons=comparisons)) == [
        "against many/pebble",
        "few (predicted: worse)\nenv.labels, env.seen",
        "noisy (predicted: better)\nenv.teacher, env.oracle.*",
        "more (predicted: better)\nnot run",
        "against few/pebble",
        "back (predicted: worse)\nenv.labels, env.seen",
    ]


def test_rows_and_panels_name_failed_seeds(folder: Path) -> None:
    for seed in range(2, 8):
        write_run(folder / "few", "ant", "pebble", seed, status="failed", **{"env.labels": 2})
        write_run(folder / "lost", "ant", "pebble", seed, status="failed")
    lost = replace(FEW, arm="lost/pebble")
    figure = draw(folder, "controls", comparisons={"few": FEW, "lost": lost})
    assert figure.axes[0].texts[0].get_text() == "n = 2, 6 failed"
    assert rows_of(figure)[2] == "lost (predicted: worse)\nnot finished, 6 failed"
    figure = draw(folder, "label_budgets", protocols="few, many, lost", agents="pebble")
    assert figure.axes[0].get_title("right") == "n = 2, 12 failed"


def test_a_comparison_without_runs_is_named_below_the_others(folder: Path) -> None:
    more = replace(FEW, arm="more/pebble", predicted="better")
    figure = draw(folder, "controls", comparisons={"more": more, "few": FEW})
    (axes,) = figure.axes
    rows = [text.get_text() for text in axes.get_yticklabels()]
    assert rows == [
        "against many/pebble",
        "few (predicted: worse)\nenv.labels, env.seen",
        "more (predicted: better)\nnot run",
    ]
    assert len([line for line in axes.lines if line.get_marker() == "s"]) == 1
    with pytest.raises(MissingDataError, match=r"controls\.toml: no comparison has finished runs"):
        draw(folder, "controls", comparisons={"more": more})


def test_an_environment_of_one_arm_alone_is_named(folder: Path) -> None:
    arm(folder / "few", "pebble", [1, 2], env="hopper", **{"env.labels": 2})
    assert rows_of(draw(folder, "controls", comparisons={"few": FEW})) == [
        "against many/pebble",
        "few, ant (predicted: worse)\nenv.labels, env.seen",
        "few, hopper (predicted: worse)\nonly one arm has finished runs",
    ]


def test_scores_need_the_scale_on_every_environment(folder: Path) -> None:
    options: dict[str, Any] = {"protocols": "few, many", "agents": "pebble"}
    arm(folder / "few", "pebble", [1, 2], env="hopper", **{"env.labels": 2})
    with pytest.raises(MissingDataError, match="no finished run of random and sac on hopper in"):
        draw(folder, "label_budgets", **options)
    for agent in ("random", "sac"):
        arm(folder / "many", agent, [3, 5], env="hopper")
    with pytest.raises(MissingDataError, match="no score is defined on hopper: sac not above ran"):
        draw(folder, "label_budgets", **options)


def test_an_undefined_comparison_is_an_error(folder: Path) -> None:
    arm(folder / "elsewhere", "pebble", [1, 2], env="hopper")
    arm(folder / "flat", "random", [0, 0])
    arm(folder / "flat", "sac", [0, 0])
    comparisons = {"few": FEW, "far": replace(FEW, arm="elsewhere/pebble")}
    with pytest.raises(
        MissingDataError, match=r"controls\.toml: no difference is defined of far; "
    ):
        draw(folder, "controls", comparisons=comparisons)
    ((path, recipe),) = drawing.load(["controls"])
    recipe = replace(recipe, scale=replace(SCALE, folder="flat"), comparisons={"few": FEW})
    with pytest.raises(MissingDataError, match="no difference is defined of few"):
        drawing.draw(recipe, [], folder, path.name)


def test_returns_are_drawn_against_labels(folder: Path) -> None:
    figure = draw(folder, "label_budgets", protocols="few, many, none", agents="surf, pebble")
    auc, final = figure.axes
    assert auc.get_title("left") == "ant: area under the curve"
    for axes in (auc, final):
        (line,) = [line for line in axes.lines if line.get_marker() != "None"]
        np.testing.assert_allclose(line.get_ydata(), [0.5, 0.3])
        assert [text.get_text() for text in axes.get_xticklabels()] == ["2", "4"]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["pebble"]


def test_the_command_reads_folders_of_several_protocols(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = (ROOT / "plots/label_budgets.toml").read_text().replace("labels_250", "many")
    recipe = recipe.replace("labels_50, labels_100, many, labels_1000", "few, many")
    path = tmp_path / "mine.toml"
    path.write_text(recipe.replace('"uniform, pebble', '"pebble'))
    options = ("--results", str(folder), "--out", str(tmp_path / "out"))
    assert main(["plot", str(path), *options]) == 0
    assert (tmp_path / "out/mine.svg").is_file()
    capsys.readouterr()
    assert "no folder" in fails(capsys, "plot", "controls", *options)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("[comparisons.labels_50]", "[comparisons.labels_50.x]", "key 'comparisons', 'labels_50':"),
        ('predicted = "worse"', 'predicted = "most"', "'labels_50': key 'predicted' is 'most'"),
        ("[scale]", "comparisons = 3\n[scale]", "key 'comparisons' is 3; expected tables"),
    ],
)
def test_an_incomplete_comparison_is_an_error_that_names_it(
    tmp_path: Path, old: str, new: str, message: str
) -> None:
    text = (ROOT / "plots/controls.toml").read_text()
    if new.startswith("comparisons"):
        text = re.sub(r"^\[comparisons.*?\Z", "", text, flags=re.DOTALL | re.MULTILINE)
    (tmp_path / "mine.toml").write_text(text.replace(old, new))
    with pytest.raises(UserError, match=re.escape(message)):
        drawing.load([str(tmp_path / "mine.toml")])
