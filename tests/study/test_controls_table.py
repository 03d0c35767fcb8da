"""Table of the controls: the page has what the program prints, and names what was not run."""

from __future__ import annotations

import re
from pathlib import Path

import controls_table
from helpers.checkout import ROOT
from helpers.results import write_run

from mujoco_sail.analysis.figures import drawing

((_, RECIPE),) = drawing.load(["controls"])


def test_the_page_has_the_table_of_the_published_controls() -> None:
    table = controls_table.rows(str(ROOT / "results/controls"))
    assert "\n".join(table) in (ROOT / "docs/study.md").read_text()
    assert len(table) == 2 + len(RECIPE.comparisons)  # all have been run


def test_failed_seeds_are_in_the_table(tmp_path: Path) -> None:
    for place, seeds in (("labels_250", 3), ("labels_50", 2)):
        for seed in range(seeds):
            write_run(tmp_path / place, "ant", "uniform", seed, (1 + seed,) * 3)
    for agent, level in (("random", 0), ("sac", 9)):
        for seed in range(2):
            write_run(tmp_path / "labels_250", "ant", agent, seed, (level + seed,) * 3, answers=())
    write_run(tmp_path / "labels_50", "ant", "uniform", 2, status="failed")
    write_run(tmp_path / "labels_100", "ant", "uniform", 0, status="failed")
    *_, row, failed, missing = controls_table.rows(str(tmp_path))
    assert row.startswith("| labels_50 | worse | 2 (1 failed) | 0.00 ")
    assert failed == "\nNot finished, 1 failed: labels_100"
    assert missing.startswith("\nNot run: labels_1000, ")


def test_without_any_run_every_control_is_named(tmp_path: Path) -> None:
    (line,) = controls_table.rows(str(tmp_path))
    assert line.startswith("\nNot run: labels_50, labels_100, ")


def test_the_declared_controls_are_those_that_the_study_runs() -> None:
    script = (ROOT / "study/controls.sh").read_text()
    made = {
        f"{folder}/{agent.removesuffix('.toml')}"
        for folder, agents in re.findall(r"^run (\w+) ([\w.,]+)", script, re.MULTILINE)
        for agent in agents.split(",")
    }
    compared = {place for one in RECIPE.comparisons.values() for place in (one.arm, one.against)}
    scale = {f"{RECIPE.scale.folder}/{agent}" for agent in ("random", "sac")}
    assert compared | scale == made
