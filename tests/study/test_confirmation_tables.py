"""Tables of the confirmation, against values computed by hand and against those of the doses."""

from __future__ import annotations

from pathlib import Path

import confirmation_tables as tables
import pytest
from helpers.checkout import ROOT
from helpers.results import write_run

from mujoco_sail.results.pooling import collect


def test_the_choice_scores_both_numbers_of_labels_on_one_scale(tmp_path: Path) -> None:
    for seed, shift in enumerate((-1, 1)):
        for agent, level in (("random", 10), ("sac", 110), ("s_0", 50)):
            write_run(tmp_path / "few", "ant", agent, seed, [level + shift] * 3)
        write_run(tmp_path / "many", "ant", "s_0", seed, [80 + shift] * 3)
    few, many = (collect(tmp_path / name) for name in ("few", "many"))
    # The standard error of both ends is 1: that of the difference is the root of 2.
    assert [row.split(" | ")[3:] for row in tables.choice(few, many)[2:]] == [
        ["0.40", "100.0", "2.8 |"],
        ["0.70", "100.0", "2.8 |"],
    ]


def test_the_comparisons_are_those_of_the_doses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "COMPARED", (("s_0.5", "s_0"), ("permuted_0.5", "s_0.5")))
    doses, fifth = (collect(ROOT / "results" / name) for name in ("doses", "doses_fifth"))
    of_doses, _ = tables.declared(doses)[2:]
    page = (ROOT / "docs/study.md").read_text()
    assert "| s_0.5 | 40 | -0.13 [-0.24, -0.02] | 0.0189 |" in page
    assert of_doses.startswith("| s_0.5 | s_0 | 2 | 40 | -0.13 [-0.24, -0.02] | 0.0189 |")
    assert of_doses.endswith(" 0.0378 |")  # of two: twice the smaller p
    (stand, _) = tables.control(doses, fifth)[2:]
    assert "| walker_stand | fewer_labels | 20 | -0.15 [-0.25, -0.06] |" in page
    assert stand.startswith("| walker_stand | 20 | -0.15 [-0.25, -0.06] |")


def test_comparisons_without_runs_are_left_out() -> None:
    (only,) = tables.declared(collect(ROOT / "results/doses"))[2:]
    assert only.startswith("| s_0.5 | s_0 | 2 | 40 | -0.13 [-0.24, -0.02] | 0.0189 |")
    assert only.endswith(" 0.0189 |")


def test_the_page_has_the_tables_that_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    tables.main(ROOT / "results")
    printed = capsys.readouterr().out.strip().split("\n\n")
    assert len(printed) == 3
    page = (ROOT / "docs/study.md").read_text()
    assert [table for table in printed if table not in page] == []
