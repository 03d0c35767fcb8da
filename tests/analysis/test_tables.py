"""Comparison table, in three formats."""

from __future__ import annotations

import io
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from helpers.command_line import fails
from helpers.results import MakeFolder

from mujoco_sail.analysis import effect_size, tables
from mujoco_sail.results.pooling import collect
from mujoco_sail.system.errors import UserError


def compare(results: Path, baseline: str = "pebble") -> pd.DataFrame:
    return tables.comparison(collect(results), baseline).set_index(["environment", "agent"])


# --- the comparison ----------------------------------------------------------------------------


@pytest.mark.usefixtures("three_arms")
def test_a_row_has_the_statistics_over_seeds(results: Path) -> None:
    row = compare(results).loc["walker_walk", "sail"]
    assert (row["protocol"], row["seeds"], row["failed"], row["labels"]) == ("quick", 3, 0, 3)
    assert row["final_return"] == row["iqm"] == 3
    assert (row["iqm_low"], row["iqm_high"]) == (2, 4)
    assert row["area_under_curve"] == pytest.approx(3 / 4)
    assert row["d"] == pytest.approx(math.sqrt(2 / math.pi))
    assert (row["d_low"], row["d_high"]) == effect_size.effect_interval([2, 3, 4], [1, 2, 3])
    assert row["improvement"] == pytest.approx((6 + 2 / 2) / 9)
    assert row["improvement_low"] < row["improvement"] < row["improvement_high"] == 1
    assert math.isnan(row["success_rate"])


@pytest.mark.usefixtures("three_arms")
def test_agents_without_labels_come_first_then_the_baseline(results: Path) -> None:
    assert [agent for _, agent in compare(results).index] == ["sac", "pebble", "sail"]
    assert [agent for _, agent in compare(results, "sail").index] == ["sac", "sail", "pebble"]


@pytest.mark.parametrize("command", ["table", "table --across", "report"])
@pytest.mark.usefixtures("three_arms")
def test_a_misspelt_baseline_is_an_error(
    results: Path, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    said = fails(capsys, *command.split(), "--results", str(results), "--baseline", "pebbel")
    assert "--baseline: no agent 'pebbel'; did you mean 'pebble'?" in said


@pytest.mark.usefixtures("three_arms")
def test_effect_is_undefined_for_the_baseline_and_without_one(results: Path) -> None:
    effects = ["d", "d_low", "d_high", "improvement"]
    assert compare(results).loc[("walker_walk", "pebble"), effects].isna().all()
    assert compare(results, "surf")[effects].isna().all(axis=None)
    assert "no finished run of the baseline surf in: walker_walk" in tables.table(
        results, "md", "surf", 0.1
    )


@pytest.mark.usefixtures("three_arms")
def test_failed_seeds_are_counted_and_statistics_are_over_the_others(
    results: Path, make: MakeFolder
) -> None:
    make("walker_walk", "sail", 3, (0, 0, 1e9), status="failed", failure="loss\nis \x1b[31mnan")
    row = compare(results).loc["walker_walk", "sail"]
    assert (row["seeds"], row["failed"], row["final_return"]) == (3, 1, 3)
    text = tables.table(results, "md", "pebble", 0.1)
    assert " 3 (1 failed) |" in text
    assert "failed: walker_walk/sail/seed_3: loss is ?[31mnan" in text


def test_an_agent_with_only_failed_seeds_has_a_row(results: Path, make: MakeFolder) -> None:
    make("ant", "sail", 0, status="failed")
    row = compare(results).loc["ant", "sail"]
    assert (row["seeds"], row["failed"]) == (0, 1)
    assert math.isnan(row["iqm"])
    line = tables.table(results, "md", "pebble", 0.1).splitlines()[2]
    assert [cell.strip() for cell in line.split("|")[4:-1]] == ["0 (1 failed)", *"-----"]


@pytest.mark.usefixtures("three_arms")
def test_running_runs_are_listed_separately_and_may_be_incomplete(
    results: Path, make: MakeFolder
) -> None:
    before = compare(results)
    folder = make("walker_walk", "sail", 3, status="running", **{"env.protocol": "paper"})
    (folder / "evaluations.csv").write_text("step,epis")
    pd.testing.assert_frame_equal(compare(results), before)
    text = tables.table(results, "md", "pebble", 0.1)
    assert "incomplete, not counted: walker_walk/sail/seed_3" in text


@pytest.mark.usefixtures("three_arms")
def test_a_row_does_not_depend_on_other_rows(results: Path, make: MakeFolder) -> None:
    before = compare(results).loc["walker_walk", "sail"]
    make("ant", "sail", 0)
    make("walker_walk", "another", 0)
    pd.testing.assert_series_equal(compare(results).loc["walker_walk", "sail"], before)


def test_success_rate_is_the_mean_of_the_last_tenth(results: Path, make: MakeFolder) -> None:
    make("door_open", "sail", 0, success=0.5)
    make("door_open", "sail", 1, success=0.51)
    assert compare(results).loc[("door_open", "sail"), "success_rate"] == pytest.approx(0.505)
    (row,) = (line for line in tables.table(results, "md", "pebble", 0.1).splitlines()[2:3])
    assert row.endswith(" 0.505 |")


# --- as text -----------------------------------------------------------------------------------


@pytest.mark.usefixtures("three_arms")
def test_markdown_is_aligned_and_shows_dashes(results: Path) -> None:
    lines = tables.table(results, "md", "pebble", 0.1).split("\n\n")[0].splitlines()
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
    lines = tables.table(results, "latex", "pebble_npg", 0.1).splitlines()
    rows = [line for line in lines if line.endswith(r"\\")]
    assert lines[0] == r"\begin{tabular}{lllrrrrrr}"
    assert {row.count(" & ") for row in rows} == {8}
    assert r"d vs pebble\_npg [95 \% interval]" in rows[0]
    assert r"walker\_walk & sac & quick & 3 & 0 & 6.00 & 6.00 [5.00, 7.00] & -- & --" in rows[1]


@pytest.mark.usefixtures("three_arms")
def test_latex_writes_minus_signs_and_not_hyphens(results: Path) -> None:
    assert "[$-$" in tables.table(results, "latex", "pebble", 0.1)


@pytest.mark.usefixtures("three_arms")
def test_unknown_format_names_the_nearest(results: Path) -> None:
    with pytest.raises(UserError, match="did you mean 'latex'"):
        tables.table(results, "latx", "pebble", 0.1)
