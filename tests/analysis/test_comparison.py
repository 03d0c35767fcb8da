"""`mujoco_sail.compare`: the numbers of `mujoco-sail table` as tables."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from helpers.command_line import fails
from helpers.results import MakeFolder

import mujoco_sail
from mujoco_sail import UserError, cli


def printed(capsys: pytest.CaptureFixture[str], *words: str) -> pd.DataFrame:
    assert cli.main(["table", "--format", "csv", *words]) == 0
    return pd.read_csv(io.StringIO(capsys.readouterr().out))


@pytest.mark.usefixtures("three_arms", "coarse")
def test_tables_hold_the_numbers_that_the_command_prints(
    make: MakeFolder, results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for seed in range(3):
        make("walker_walk", "random", seed, (0, 0, seed / 10), answers=())
    comparison = mujoco_sail.compare(results, baseline="sail", margin=0.2)
    options = ["--results", str(results), "--baseline", "sail", "--margin", "0.2"]

    table = printed(capsys, *options).rename(columns={"environment": "env"})
    whole = comparison.environments
    same = [name for name in whole if name in table]
    assert same == [*whole]
    pd.testing.assert_frame_equal(whole, table[same], check_dtype=False, rtol=1e-5)
    # PEBBLE ends at 1, 2, 3, SAIL at 2, 3, 4.
    (row,) = comparison.paired.query("agent == 'pebble' and metric == 'final'").to_dict("records")
    assert (row["env"], row["difference"], row["n_pairs"]) == ("walker_walk", -1.0, 3)
    of_command = table.set_index("agent").loc["pebble"]
    assert row["detectable_d"] == pytest.approx(of_command["final_detectable_d"], rel=1e-4)

    across = printed(capsys, *options, "--across")
    pooled = comparison.pooled
    pd.testing.assert_frame_equal(pooled, across[[*pooled]], check_dtype=False, rtol=1e-5)
    (row,) = comparison.pooled_paired.query("agent == 'sac' and metric == 'auc'").to_dict("records")
    assert row["share"] == pytest.approx(across.set_index("agent")["auc_share"]["sac"], rel=1e-4)
    assert comparison.effects.columns[:2].tolist() == ["env", "agent"]
    (verdict,) = comparison.verdicts
    assert verdict.startswith("No difference between PEBBLE and SAIL was detected: ")


@pytest.mark.usefixtures("three_arms")
def test_what_needs_a_scale_says_what_is_missing_and_the_rest_is_there(results: Path) -> None:
    comparison = mujoco_sail.compare(results)
    assert len(comparison.environments) == 3
    with pytest.raises(UserError, match="no finished run of random"):
        _ = comparison.pooled


@pytest.mark.usefixtures("three_arms")
@pytest.mark.parametrize(
    ("options", "words"),
    [({"baseline": "peble"}, ["--baseline", "peble"]), ({"margin": 0.0}, ["--margin", "0"])],
)
def test_a_wrong_option_is_refused_as_on_the_command_line(
    options: Any, words: list[str], results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = fails(capsys, "table", "--results", str(results), *words)
    with pytest.raises(UserError) as caught:
        mujoco_sail.compare(results, **options)
    assert f"mujoco-sail: {caught.value}\n" == said
