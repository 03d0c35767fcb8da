"""Hyperparameter search of the study: equal candidates, seeds and steps for all agents."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from collections import defaultdict
from pathlib import Path

import pandas as pd
import pytest

STUDY = Path(__file__).resolve().parents[2] / "study"
ARMS = {"pebble", "sail", "pebble_revkl", "sail_revkl"}
TABLES = sorted(STUDY.glob("*_search.csv"))


def arm_of(candidate: str) -> str:
    """Agent of a candidate: the base of its recipe."""
    if candidate in ARMS:
        return candidate
    recipe = tomllib.loads((STUDY / "candidates" / f"{candidate}.toml").read_text())
    # lambda and gamma, or one setting
    assert len(set(recipe) - {"title", "base", "lambda_unit"}) <= 2
    return str(recipe["base"])


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.stem)
def test_every_agent_had_three_candidates_of_ten_seeds(table: Path) -> None:
    runs = pd.read_csv(table)
    candidates = defaultdict(list)
    for agent, of_agent in runs.groupby("agent"):
        seeds = {seed: list(of_seed["step"]) for seed, of_seed in of_agent.groupby("seed")}
        assert sorted(seeds) == list(range(10))
        assert all(steps == list(range(5000, 50_001, 5000)) for steps in seeds.values())
        if agent not in ("random", "sac"):
            candidates[arm_of(str(agent))].append(agent)
    assert {arm: len(names) for arm, names in candidates.items()} == dict.fromkeys(ARMS, 3)


def test_the_searches_were_on_two_tasks() -> None:
    assert [table.stem for table in TABLES] == ["half_cheetah_search", "walker2d_search"]


@pytest.mark.parametrize(
    ("program", "arguments", "lines"),
    [
        ("scores", [], 16),
        ("calibration", [], 13),
        ("dose_tables", [STUDY.parent / "results"], 31),
    ],
)
def test_a_table_in_the_docs_equals_the_output_of_its_program(
    program: str, arguments: list[Path], lines: int
) -> None:
    command = [sys.executable, STUDY / f"{program}.py", *arguments]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert len(printed.splitlines()) == lines  # scores: candidates, with random and SAC
    page = (STUDY.parent / "docs/study.md").read_text()
    assert [
        table for table in printed.strip().split("\n\n") if f"\n\n{table}\n\n" not in page
    ] == []
