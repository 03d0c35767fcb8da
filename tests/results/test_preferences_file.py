"""`--keep-preferences`: labelled pairs of a run as an HDF5 file."""

from __future__ import annotations

import csv
import re
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from helpers.command_line import run
from helpers.resuming import results_after_stops
from helpers.runs import members_of
from helpers.tiny import CPU, tiny_task

from mujoco_sail.training.options import Extras
from mujoco_sail.training.run import Run

KEEP = Extras(keep_preferences=True)
PAGE = Path(__file__).resolve().parents[2] / "docs/results.md"


def kept(results: Path, names: list[tuple[str, int]], **changes: Any) -> list[Path]:
    """Files of the runs."""
    training = Run(tiny_task(**changes), members_of(names), CPU, results, print, extras=KEEP)
    training.execute()
    return [files.folder / "preferences.h5" for files in training.files]


def test_the_file_has_every_labelled_pair_as_feedback_csv_has_it(tmp_path: Path) -> None:
    for path in kept(tmp_path, [("pebble", 0), ("sail", 3)], teacher="skip"):
        with (path.parent / "feedback.csv").open() as file:
            answered = [row for row in csv.DictReader(file) if row["label"] != "skip"]
        with h5py.File(path) as data:
            assert data["observation"].shape == (8, 2, 10, 17)
            assert data["action"].shape == (8, 2, 10, 6)
            assert np.abs(data["action"]).max() <= 1
            assert data["valid"][:].all()
            assert data["label"][:].tolist() == [float(row["label"]) for row in answered]
            for name in ("step", "session"):
                assert data[name][:].tolist() == [int(row[name]) for row in answered]
            told = [[float(row["return_1"]), float(row["return_2"])] for row in answered]
            np.testing.assert_allclose(data["reward"][:].sum(-1), told, rtol=1e-5, atol=1e-6)
            assert data.attrs["env"] == "HalfCheetah-v5"
            assert (data.attrs["agent"], data.attrs["seed"]) in [("pebble", 0), ("sail", 3)]


def test_a_resumed_run_keeps_the_same_bytes(tmp_path: Path) -> None:
    names = [("pebble", 0), ("sail", 1)]
    through = [path.read_bytes() for path in kept(tmp_path / "through", names)]
    results_after_stops(tiny_task(), names, {}, [100], tmp_path / "again", KEEP)
    again = sorted((tmp_path / "again").rglob("preferences.h5"))
    assert [path.read_bytes() for path in again] == through
    assert through[0] != through[1]


def test_the_file_is_written_on_request_and_for_agents_with_labels(tmp_path: Path) -> None:
    assert run(tmp_path / "off", "half_cheetah", "pebble") == 0
    assert not list(tmp_path.rglob("preferences.h5"))
    assert run(tmp_path / "on", "half_cheetah", "pebble,sac", "1", "--keep-preferences") == 0
    (path,) = tmp_path.rglob("preferences.h5")
    assert path.parent.parent.name == "pebble"


def test_the_loader_in_the_docs_loads_it(tmp_path: Path) -> None:
    (path,) = kept(tmp_path, [("pebble", 0)])
    (block,) = re.findall(r"```python\n(import h5py.*?)```", PAGE.read_text(), re.DOTALL)
    assert len(block.splitlines()) <= 6
    names: dict[str, object] = {}
    exec(block.replace("results/walker_walk/pebble/seed_0/preferences.h5", str(path)), names)
    assert len(names["pairs"]) == 8  # type: ignore[arg-type]
    first = names["pairs"][0]  # type: ignore[index]
    assert [tuple(part.shape) for part in first] == [(2, 10, 17), (2, 10, 6), ()]
