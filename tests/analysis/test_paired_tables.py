"""Table of paired differences, in three formats."""

from __future__ import annotations

import io
from pathlib import Path

import pandas as pd
import pytest
from helpers.command_line import fails
from helpers.results import MakeFolder

from mujoco_sail.analysis import paired, tables
from mujoco_sail.cli import main
from mujoco_sail.results.pooling import collect


@pytest.fixture
def with_random(make: MakeFolder, three_arms: None) -> None:
    """SAIL is 0, 1, 2 above PEBBLE; the area of a curve is a quarter of its final value."""
    for seed in range(3):
        make("walker_walk", "random", seed, (0, 0, 0), answers=())
        make("walker_walk", "mrn", seed, (0, 0, 1 + 2 * seed))


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.split("|")[1:-1]]


@pytest.mark.usefixtures("with_random")
def test_markdown_has_the_differences_below_the_comparison(
    results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["table", "--results", str(results)]) == 0
    first, second, footer = capsys.readouterr().out.rstrip().split("\n\n")
    rows = {row[1]: row for row in map(cells, second.splitlines()[2:])}
    header = cells(second.splitlines()[0])
    assert list(rows) == ["random", "sac", "mrn", "sail"]
    mrn = dict(zip(header, rows["mrn"], strict=True))
    # Differences 0, 1/4, 2/4 of a gain of 6/4: 1/6 +- 4.303 / (6 sqrt(3)).
    assert mrn["pairs"] == "3"
    assert mrn["AUC: difference [95 % interval]"] == "0.25 [-0.37, 0.87]"
    assert mrn["AUC: share of sac's gain [95 % interval]"] == "0.17 [-0.25, 0.58]"
    assert mrn["final return: share of sac's gain [95 % interval]"] == "0.17 [-0.25, 0.58]"
    assert mrn["unpaired [95 % interval]"].startswith("0.17 [-0.")
    assert rows["sail"][3:5] == ["0.25", "0.17"]  # the same in every seed
    assert "pairs: seeds that both have" in footer
    assert "within 0.1 of 0" in footer
    assert "sail: on walker_walk all paired differences are equal and positive" in footer
    assert len({len(line) for line in second.splitlines()}) == 1
    assert len(first.splitlines()) == 7


@pytest.mark.usefixtures("three_arms")
def test_without_random_the_shares_are_dashes_with_a_reason(results: Path) -> None:
    _, second, footer = tables.table(results, "md", "pebble", 0.1).split("\n\n")
    row = cells(second.splitlines()[-1])
    assert row[:2] == ["walker_walk", "sail"]
    assert row[4:7] == ["-", "-", "-"]
    assert row[7].startswith("0.80 [-")
    assert "no shares in walker_walk: they need finished runs of random and of sac" in footer


def test_notes_name_the_metric_unless_they_hold_for_both(results: Path, make: MakeFolder) -> None:
    for seed in range(3):
        make("ant", "pebble", seed, (0, 0, seed))
        make("ant", "mrn", seed, (0, 0, seed))
        make("ant", "sail", seed, (0, 4 * seed, seed))
        make("ant", "random", seed, (0, 0, 2), answers=())
        make("ant", "sac", seed, (0, 9, 2), answers=())
        make("hopper", "pebble", seed, (0, 0, seed))
        make("hopper", "rune", seed, (0, 0, 2 * seed))
    footer = tables.table(results, "md", "pebble", 0.1).split("\n\n")[-1].splitlines()
    assert "sail, final return: on ant all paired differences are 0" in footer
    assert "mrn: on ant all paired differences are 0" in footer
    assert len([line for line in footer if "paired differences are" in line]) == 2
    need = "they need finished runs of random and of sac, and sac above random"
    assert f"no shares of final return in ant: {need}" in footer
    assert f"no shares in hopper: {need}" in footer


@pytest.mark.usefixtures("with_random")
def test_csv_has_the_numbers_of_both_tables_in_one_row(results: Path) -> None:
    text = tables.table(results, "csv", "pebble", 0.1)
    frame = pd.read_csv(io.StringIO(text)).set_index("agent")
    assert (*frame.reset_index()[[*tables.COLUMNS]],) == tables.COLUMNS
    assert (*frame,)[-len(paired.wide_columns()) :] == paired.wide_columns()
    found = paired.by_environment(collect(results), "pebble", 0.1)
    for row in found.to_dict("records"):
        for name in paired.NUMBERS:
            number = frame.loc[row["agent"], f"{row['metric']}_{name}"]
            assert number == pytest.approx(row[name], rel=1e-9, nan_ok=True)
    assert frame.loc["pebble", [*paired.wide_columns()]].isna().all()


@pytest.mark.usefixtures("with_random")
def test_latex_has_both_tables(results: Path) -> None:
    first, second = tables.table(results, "latex", "pebble", 0.1).split("\n\n")
    assert first.startswith(r"\begin{tabular}{lllrrrrrr}")
    assert second.startswith(r"\begin{tabular}{llrrrrrrrrrr}")
    assert r"walker\_walk & mrn & 3 & 0.25 [$-$0.37, 0.87] & 0.17" in second


@pytest.mark.usefixtures("with_random")
def test_the_margin_is_that_of_the_command(
    results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = {}
    for margin in ("0.1", "0.5"):
        main(["table", "--results", str(results), "--format", "csv", "--margin", margin])
        frame = pd.read_csv(io.StringIO(capsys.readouterr().out)).set_index("agent")
        told[margin] = frame.loc["mrn", "auc_p_equivalence"]
    assert told["0.5"] < told["0.1"]


@pytest.mark.parametrize("margin", ["0", "-1", "nan", "inf", "a"])
@pytest.mark.parametrize("command", ["table", "table --across", "report"])
@pytest.mark.usefixtures("three_arms")
def test_an_invalid_margin_is_an_error(
    results: Path, capsys: pytest.CaptureFixture[str], command: str, margin: str
) -> None:
    said = fails(capsys, *command.split(), "--results", str(results), f"--margin={margin}")
    assert "--margin" in said


def test_one_agent_alone_has_no_second_table(results: Path, make: MakeFolder) -> None:
    make("ant", "sail", 0)
    assert tables.table(results, "md", "pebble", 0.1).count("\n\n") == 1
    assert "\n\n" not in tables.table(results, "latex", "pebble", 0.1)
