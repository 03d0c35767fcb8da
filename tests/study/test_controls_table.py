"""Table of the controls: the page has what the program prints, and names what was not run."""

from __future__ import annotations

from pathlib import Path

import controls_table
from helpers.checkout import ROOT


def test_the_page_has_the_table_of_the_published_controls() -> None:
    *table, missing = controls_table.rows(str(ROOT / "results/controls"))
    assert "\n".join(table) in (ROOT / "docs/study.md").read_text()
    assert missing == "\nNot run: labels_1000, surf_50, qpa_50"


def test_without_any_run_every_control_is_named(tmp_path: Path) -> None:
    (line,) = controls_table.rows(str(tmp_path))
    assert line.startswith("\nNot run: labels_50, labels_100, ")
