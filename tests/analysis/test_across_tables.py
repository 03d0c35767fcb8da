"""Tables over all environments, in three formats."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from helpers.command_line import fails
from helpers.results import MakeFolder

from mujoco_sail.analysis import across, paired, tables_across
from mujoco_sail.cli import main
from mujoco_sail.results.pooling import collect

LEVELS = {"random": 0, "sac": 100, "pebble": 40, "sail": 60, "sail_revkl": 20}


@pytest.fixture
def two_environments(make: MakeFolder) -> None:
    """Six seeds per agent with a variance of 56."""
    noise = (-10, -6, -2, 2, 6, 10)
    for env in ("hopper", "ant"):
        for agent, level in LEVELS.items():
            answers = () if agent in ("random", "sac") else ("1", "0")
            for seed in range(6):
                returns = (0, 0, level + noise[seed])
                make(env, agent, seed, returns, answers=answers)


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.split("|")[1:-1]]


@pytest.mark.usefixtures("two_environments")
def test_markdown_has_the_pooled_table_the_verdict_and_every_environment(
    results: Path, make: MakeFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    make("ant", "sail", 6, status="failed", failure="loss is nan")
    make("ant", "sail", 7, status="running")
    assert main(["table", "--across", "--results", str(results)]) == 0
    pooled, paired, verdicts, single, footer = capsys.readouterr().out.rstrip().split("\n\n")
    rows = {row[0]: row for row in map(cells, pooled.splitlines())}
    assert list(rows)[2:] == ["random", "sac", "pebble", "sail", "sail_revkl"]
    assert rows["sail"][1:3] == ["2", "6 (1 failed)"]
    assert rows["pebble"][2] == "6"
    assert rows["sail"][3].startswith("0.60 [")
    assert rows["sail"][5].startswith("2.47 [")  # 20 / sqrt(56), times J(10) = 0.923
    assert (rows["sail"][7], rows["sail_revkl"][7]) == ("12 of 12", "0 of 12")
    assert rows["pebble"][4:7] == ["-", "-", "-"]
    compared = {row[0]: row for row in map(cells, paired.splitlines())}
    assert list(compared)[2:] == ["random", "sac", "sail", "sail_revkl"]
    assert compared["sail"][1:4] == ["2", "12", "0.20"]  # the same in every seed: no interval
    assert "- SAIL cannot be compared with PEBBLE" not in verdicts
    assert len(verdicts.splitlines()) == 2
    each = list(map(cells, single.splitlines()[2:]))
    assert [row[:2] for row in each[:3]] == [["ant", "random"], ["ant", "sac"], ["ant", "pebble"]]
    assert [row[0] for row in each] == ["ant"] * 5 + ["hopper"] * 5
    assert [row[-1] for row in each[3:5]] == ["4 (6 of 6)", "not reached (0 of 6)"]
    assert [row[2] for row in each[3:5]] == ["6 (1 failed)", "6"]
    assert all(len(set(map(len, table.splitlines()))) == 1 for table in (pooled, paired, single))
    assert "scaled in each environment so that the mean of random is 0 and that of sac" in footer
    own, second = footer.split("\nSecond table:\n")
    assert own.startswith("First and last table:\nscore: ")
    assert "p: two-sided permutation test" in own
    assert "p: t test of the paired differences" in second
    assert "failed: ant/sail/seed_6: loss is nan" in footer
    assert "incomplete, not counted: ant/sail/seed_7" in footer


@pytest.mark.usefixtures("two_environments")
def test_an_agent_that_lacks_an_environment_is_compared_on_those_it_has(
    results: Path, make: MakeFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    for seed in range(2):
        make("ant", "surf", seed, (0, 0, 40 + seed), answers=("1", "0"))
    assert main(["table", "--across", "--results", str(results)]) == 0
    rows = {row[0]: row for row in map(cells, capsys.readouterr().out.splitlines()[:8])}
    assert rows["surf"][1:4] == ["1", "2", "-"]
    assert rows["surf"][4].startswith("0.50 [")  # above three of pebble's six
    assert rows["surf"][5] != "-"
    assert rows["surf"][7] == "0 of 2"
    assert rows["sail"][3].startswith("0.60 [")


@pytest.mark.usefixtures("two_environments")
def test_agents_whose_runs_all_failed_keep_their_row(results: Path, make: MakeFolder) -> None:
    for seed in range(3):
        make("ant", "surf", seed, status="failed", failure="loss is nan")
    make("hopper", "sail", 6, status="failed", failure="loss is nan")
    text = tables_across.table(results, "csv", "pebble", 0.1)
    frame = pd.read_csv(io.StringIO(text)).set_index("agent")
    counts = ["environments", "seeds", "seeds_most", "failed", "reached", "runs"]
    assert frame.loc["surf", counts].tolist() == [0, 0, 0, 3, 0, 0]
    assert frame.loc["sail", counts].tolist() == [2, 6, 6, 1, 12, 12]
    assert frame.loc["surf", "iqm":"improvement_high"].isna().all()
    assert frame.loc["pebble", "failed"] == 0
    text = tables_across.table(results, "latex", "pebble", 0.1)
    assert "surf & 0 & 0 (3 failed) & --" in text
    *_, single, _ = tables_across.table(results, "md", "pebble", 0.1).split("\n\n")
    rows = {tuple(row[:2]): row[2:] for row in map(cells, single.splitlines())}
    assert rows["ant", "surf"] == ["0 (3 failed)", *"----"]


@pytest.mark.usefixtures("two_environments")
def test_csv_reads_back_as_the_numbers_of_the_analysis(results: Path) -> None:
    text = tables_across.table(results, "csv", "sail", 0.1)
    frame = pd.read_csv(io.StringIO(text)).set_index("agent")
    assert (*frame.reset_index(),) == (*tables_across.COLUMNS, *paired.wide_columns())
    assert list(frame.index) == ["random", "sac", "sail", "pebble", "sail_revkl"]
    runs = collect(results)
    effects = across.effects(runs, "sail").query("environment == 'pooled'").set_index("agent")
    for column in ("d", "d_low", "d_high", "p", "p_holm"):
        expected = effects[column].reindex(frame.index)
        np.testing.assert_allclose(frame[column], expected, rtol=1e-9)
    scores = across.pooled(across.normalised_scores(runs), "sail").set_index("agent")
    for column in ("iqm", "mean", "improvement_low"):
        np.testing.assert_allclose(frame[column], scores[column].reindex(frame.index), atol=1e-9)


@pytest.mark.usefixtures("two_environments")
def test_latex_has_two_tables_with_minus_signs(results: Path) -> None:
    first, second = tables_across.table(results, "latex", "pebble", 0.1).split("\n\n")
    lines = first.splitlines()
    assert lines[0] == r"\begin{tabular}{lrrrrrrr}"
    assert lines[-1] == second.splitlines()[-1] == r"\end{tabular}"
    (row,) = (line for line in lines if line.startswith(r"sail\_revkl & 2 & 6 & 0.2"))
    assert "[$-$" in row


@pytest.mark.usefixtures("three_arms")
def test_without_a_random_agent_the_command_says_what_to_run(
    results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = fails(capsys, "table", "--across", "--results", str(results))
    assert "walker_walk: no finished run of random" in said
    said = said.split("first run ")[1]
    words = "mujoco-sail run --env walker_walk --agents random,sac --seeds 3 --protocol quick"
    assert said.startswith(words)
    assert said.endswith(f" --results {results}\n")


@pytest.mark.parametrize("format", ["md", "csv", "latex"])
def test_runs_that_are_all_incomplete_give_an_empty_table(
    results: Path, make: MakeFolder, format: str
) -> None:
    make("ant", "sail", 0, status="running")
    text = tables_across.table(results, format, "pebble", 0.1)
    assert "agent" in text.splitlines()[2 if format == "latex" else 0]
    assert ("incomplete, not counted: ant/sail/seed_0" in text) == (format == "md")


MEASURED = """
import resource, sys
from mujoco_sail.cli import main
main(["table", "--across", "--results", sys.argv[1]])
used = resource.getrusage(resource.RUSAGE_SELF)
print(used.ru_maxrss, file=sys.stderr)
"""


def test_a_thousand_runs_are_pooled_in_less_than_two_gibibytes(
    results: Path, make: MakeFolder
) -> None:
    generator = np.random.default_rng(0)
    steps = tuple(range(1000, 61_000, 1000))
    for agent in (*LEVELS, "a", "b", "c", "d", "e"):
        for env in ("walker_walk", "walker_stand", "cheetah_run", "door_open"):
            for seed, noise in enumerate(generator.normal(0, 9, (25, 60))):
                returns = tuple(LEVELS.get(agent, 50) + noise)
                make(env, agent, seed, returns, steps=steps)
    done = subprocess.run(
        [sys.executable, "-c", MEASURED, results], capture_output=True, text=True, check=True
    )
    assert done.stdout.count("|") > 40
    assert int(done.stderr) < 2 * 2**20  # KiB
