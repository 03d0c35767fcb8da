"""Tables of the doses: the page has what the program prints."""

from __future__ import annotations

import dose_tables
from helpers.checkout import ROOT

from mujoco_sail.results.pooling import collect


def test_the_page_has_the_declared_comparison_corrected_over_its_three_doses() -> None:
    table = dose_tables.declared(collect(ROOT / "results/doses"))
    assert "\n".join(table) in (ROOT / "docs/study.md").read_text()
    rows = {row.split(" | ")[0]: row.split(" | ") for row in table[2:]}
    assert [*rows] == ["| s_0.03", "| s_0.1", "| s_0.5"]
    assert rows["| s_0.5"][4] == "0.0567"
