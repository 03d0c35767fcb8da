"""`mujoco_sail.read_results`: the files of many runs as a few tables."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from helpers.results import MakeFolder

import mujoco_sail
from mujoco_sail import UserError
from mujoco_sail.results.pooling import collect, training_tables
from mujoco_sail.results.tidy import tidy


def test_tables_have_a_row_for_each_observation(make: MakeFolder, results: Path) -> None:
    logged = {"step": [100, 300], "critic_loss": [0.5, ""], "labels": [2, 4]}
    make("walker", "sail", 1, (1, 2, 3), answers=("1", "skip", "0.5"), training=logged)
    make("walker", "sac", 0, (4, 5, 6), answers=(), success=0.5)
    make("walker", "sac", 1, status="running")
    make("walker", "sac", 2, status="failed", failure="it diverged", wall_seconds=7.5)
    read = mujoco_sail.read_results(str(results))

    assert read.runs["status"].tolist() == ["complete", "running", "failed", "complete"]
    assert read.runs.loc[2, ["agent", "seed", "failure", "wall_seconds"]].tolist() == [
        "sac",
        2,
        "it diverged",
        7.5,
    ]
    assert read.runs["labels"].tolist() == [0, pd.NA, pd.NA, 2]
    assert read.runs["folder"][3] == str(results / "walker/sail/seed_1")

    columns = ["env", "agent", "seed", "step", "episode_return", "success_rate"]
    assert read.evaluations[columns].to_csv(index=False).splitlines()[1:] == [
        "walker,sac,0,100,4.0,0.5",
        "walker,sac,0,200,5.0,0.5",
        "walker,sac,0,300,6.0,0.5",
        "walker,sail,1,100,1.0,",
        "walker,sail,1,200,2.0,",
        "walker,sail,1,300,3.0,",
    ]
    assert read.training.to_csv(index=False) == (
        "env,agent,seed,step,critic_loss,labels\nwalker,sail,1,100,0.5,2\nwalker,sail,1,300,,4\n"
    )
    assert read.feedback[["env", "agent", "seed"]].drop_duplicates().to_numpy().tolist() == [
        ["walker", "sail", 1]
    ]
    np.testing.assert_array_equal(read.feedback["label"], [1, np.nan, 0.5])
    assert read.feedback["query"].tolist() == [0, 1, 2]
    assert read.evaluations["step"].dtype == read.feedback["session"].dtype == np.int64


def test_a_run_that_logged_nothing_is_read_and_left_out_of_figures(
    make: MakeFolder, results: Path
) -> None:
    for seed, training in enumerate(("step,labels\n1,0\n", "step\n")):
        make("ant", "sail", seed)
        (results / "ant" / "sail" / f"seed_{seed}" / "training.csv").write_text(training)
    runs = collect(results)
    assert set(tidy(runs).training["seed"]) == {0}
    assert len(training_tables(runs)) == 1


def test_tables_without_rows_have_their_columns(make: MakeFolder, results: Path) -> None:
    make("walker", "sac", 1, status="running")
    read = mujoco_sail.read_results(results)
    assert len(read.evaluations) == len(read.training) == len(read.feedback) == 0
    for table in (read.evaluations, read.training, read.feedback):
        assert [*table.columns[:4]] == ["env", "agent", "seed", "step"]


def test_runs_that_must_not_be_pooled_are_read_and_not_compared(
    make: MakeFolder, results: Path
) -> None:
    make("walker", "sac", 0)
    make("walker", "pebble", 0, **{"env.protocol": "paper"})
    assert mujoco_sail.read_results(results).runs["protocol"].tolist() == ["paper", "quick"]
    with pytest.raises(UserError, match=r"differ in env\.protocol"):
        mujoco_sail.compare(results)


@pytest.mark.parametrize("read", [mujoco_sail.read_results, mujoco_sail.compare])
@pytest.mark.parametrize("folder", ["none_such", "", "a\0b"])
def test_a_folder_without_results_is_refused(read: Any, folder: str) -> None:
    with pytest.raises(UserError):
        read(folder)
