"""Data set of all published runs: complete, unambiguous, and what its program writes today."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import h5py
import pandas as pd
from helpers.checkout import ROOT

PUBLISHED = ROOT / "results/dataset"


def test_the_published_tables_are_what_the_program_writes_today(tmp_path: Path) -> None:
    subprocess.run([sys.executable, ROOT / "study/dataset.py", tmp_path], check=True)
    written = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert written == {path.name: path.read_bytes() for path in PUBLISHED.iterdir()}
    assert sorted(written) == ["evaluations.csv", "scores.csv"]


def test_every_published_run_is_in_both_tables() -> None:
    runs = {path.parent for path in (ROOT / "results").rglob("run.toml")}
    expected = sorted(str(run.relative_to(ROOT / "results")) for run in runs)
    for name in ("evaluations", "scores"):
        rows = pd.read_csv(PUBLISHED / f"{name}.csv")
        each = rows[["results", "env", "agent", "seed"]].drop_duplicates()
        found = [f"{r.results}/{r.env}/{r.agent}/seed_{r.seed}" for r in each.itertuples()]
        assert sorted(found) == expected


def test_the_published_pairs_have_the_labels_of_their_runs() -> None:
    for run in (ROOT / "results/controls/labels_250/walker_walk/pebble").iterdir():
        answers = pd.read_csv(run / "feedback.csv")
        with h5py.File(run / "preferences.h5") as file:
            assert file["label"][:].tolist() == answers["label"].dropna().tolist()
            assert file["step"][:].tolist() == answers["step"][answers["label"].notna()].tolist()
            assert file["observation"].shape == (250, 2, 50, 24)


def test_a_score_follows_from_the_evaluations_of_its_run() -> None:
    rows = pd.read_csv(PUBLISHED / "evaluations.csv")
    scores = pd.read_csv(PUBLISHED / "scores.csv")
    last = rows.groupby(["results", "env", "agent", "seed"])["episode_return"].last()
    few = rows.groupby(["results", "env", "agent", "seed"])["step"].count() < 20
    score = scores.set_index(["results", "env", "agent", "seed"])["final_return"]
    assert (score[few] - last[few]).abs().max() == 0  # 10 % of fewer than 20: the last one
    assert few.any()
