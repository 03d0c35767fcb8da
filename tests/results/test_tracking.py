"""`--track`: TensorBoard and Weights & Biases get the numbers of the CSV files."""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from helpers.command_line import fails, run
from helpers.resuming import results_after_stops
from helpers.tiny import tiny_task

from mujoco_sail import cli
from mujoco_sail.results import tracking
from mujoco_sail.system import packages
from mujoco_sail.system.errors import UserError
from mujoco_sail.training.options import Extras

NAMES = [("pebble", 0), ("sail", 1)]


def told(folder: Path) -> dict[str, dict[int, float]]:
    """Numbers in the CSV files of a run: value by name and step."""
    values: dict[str, dict[int, float]] = {}
    for name in ("training", "evaluations"):
        with (folder / f"{name}.csv").open() as file:
            for row in csv.DictReader(file):
                step = int(row.pop("step"))
                for column, cell in row.items():
                    if cell:
                        values.setdefault(f"{name}/{column}", {})[step] = float(cell)
    return values


def assert_shown(folder: Path) -> None:
    """TensorBoard shows each number of the CSV files once."""
    module = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    shown = module.EventAccumulator(str(folder)).Reload()
    expected = told(folder)
    assert expected["training/updates"]
    assert expected["evaluations/episode_return"]
    assert set(shown.Tags()["scalars"]) == set(expected)
    for name, values in expected.items():
        events = shown.Scalars(name)
        assert [event.step for event in events] == list(values), name
        np.testing.assert_allclose([e.value for e in events], list(values.values()), rtol=1e-6)


def test_tensorboard_shows_the_numbers_of_the_csv_files(tmp_path: Path) -> None:
    code = run(tmp_path, "half_cheetah", "pebble,sac", "2", "--track", "tensorboard")
    assert code == 0
    folders = sorted(path.parent for path in tmp_path.rglob("run.toml"))
    assert len(folders) == 4
    for folder in folders:
        assert_shown(folder)


def test_a_resumed_run_is_shown_once(tmp_path: Path) -> None:
    task, extras = tiny_task(log_every=25), Extras(track=("tensorboard",))
    results_after_stops(task, NAMES, {}, [100], tmp_path, extras)
    for name, seed in NAMES:
        assert_shown(tmp_path / "half_cheetah" / name / f"seed_{seed}")


class StandIn:
    """Fake of Weights & Biases: steps only increase, and a known run is resumed."""

    def __init__(self) -> None:
        self.runs: dict[str, SimpleNamespace] = {}
        self.asked: list[dict[str, Any]] = []

    def init(self, **asked: Any) -> SimpleNamespace:
        self.asked.append(asked)
        known = self.runs.get(asked["id"])
        if known is None:
            known = self.runs[asked["id"]] = SimpleNamespace(step=0, rows=[], finished=0)

        def log(row: dict[str, float], step: int) -> None:
            assert step >= known.step
            known.step = step
            known.rows.append((step, row))

        def finish() -> None:
            known.finished += 1
            known.step += 1  # a resumed run continues at the next step

        known.log, known.finish = log, finish
        return known


@pytest.fixture
def wandb(monkeypatch: pytest.MonkeyPatch) -> Iterator[StandIn]:
    stand_in = StandIn()
    monkeypatch.setitem(sys.modules, "wandb", stand_in)  # type: ignore[arg-type]
    return stand_in  # type: ignore[return-value]


def test_wandb_has_one_run_per_member_which_is_resumed(tmp_path: Path, wandb: StandIn) -> None:
    task, extras = tiny_task(log_every=25), Extras(track=("wandb",))
    results_after_stops(task, NAMES, {}, [100], tmp_path, extras)
    assert len(wandb.runs) == 2
    assert [asked["group"] for asked in wandb.asked[:2]] == [
        "half_cheetah/pebble",
        "half_cheetah/sail",
    ]
    for (name, seed), logged in zip(NAMES, wandb.runs.values(), strict=True):
        assert logged.finished == 2
        values: dict[str, dict[int, float]] = {}
        for step, row in logged.rows:
            for column, value in row.items():
                assert step not in values.setdefault(column, {})  # nothing twice
                values[column][step] = value
        assert values == told(tmp_path / "half_cheetah" / name / f"seed_{seed}")


def test_rows_before_the_start_of_tracking_are_logged_in_the_order_of_steps(
    tmp_path: Path, wandb: StandIn
) -> None:
    rows = {
        "training.csv": [["step", "loss"], [10, "0.5"], [30, ""]],
        "evaluations.csv": [["step", "return"], [20, "7"], [30, "8"]],
    }
    made = tracking.Tracking("wandb", pytest.fail)
    made.begin(tracking.TrackedRun(tmp_path / "env/agent/seed_0", "id", {}), rows)
    made.finish()
    logged = [(step, row) for step, row in wandb.runs["id"].rows if row]
    assert logged == [
        (10, {"training/loss": 0.5}),
        (20, {"evaluations/return": 7}),
        (30, {"evaluations/return": 8}),
    ]


def test_a_failing_tracker_gives_one_line_and_the_runs_complete(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuses(run: tracking.TrackedRun) -> tracking.Tracker:
        raise OSError("no such\nserver")

    monkeypatch.setitem(tracking.KINDS, "tensorboard", refuses)  # type: ignore[index]
    lines: list[str] = []
    made = tracking.Tracking("tensorboard", lines.append)
    rows = {name: [["step", "x"], [5, "1"], [7, "2"]] for name in tracking.TABLES}
    made.begin(tracking.TrackedRun(tmp_path, "id", {}), rows)
    made.finish()
    assert lines == ["--track tensorboard: OSError: no such server; training continues without it"]


def test_a_hanging_tracker_does_not_block_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracking, "PATIENCE", 0.05)
    released = tracking.threading.Event()
    monkeypatch.setitem(tracking.KINDS, "wandb", lambda run: released.wait())  # type: ignore[index]
    lines: list[str] = []
    made = tracking.Tracking("wandb", lines.append)
    made.begin(
        tracking.TrackedRun(tmp_path, "id", {}), {name: [["step"]] for name in tracking.TABLES}
    )
    made.finish()
    released.set()
    assert lines == ["--track wandb: not finished 0 s after the run; abandoned"]


def test_a_missing_library_is_an_error_before_training_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(packages, "find_spec", lambda name: None)
    arguments = ("--env", "half_cheetah", "--results", str(tmp_path / "results"))
    said = fails(capsys, "run", *arguments, "--track", "wandb")
    assert "pip install 'mujoco-sail[wandb]'" in said
    assert not (tmp_path / "results").exists()


def test_a_folder_of_a_librarys_name_is_no_library(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "nowhere_else").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(packages.EXTRAS, "nowhere_else", ("nowhere-else", "wandb"))
    with pytest.raises(UserError, match="needs the package nowhere-else"):
        tracking.check(["nowhere_else"])
    with pytest.raises(UserError, match="No module named 'nowhere_else'"):
        packages.load("nowhere_else", "it")


def test_trackers_are_joined_by_commas_or_named_one_after_the_other() -> None:
    words = ["run", "--env=ant", "--track", "wandb,tensorboard", "--track=wandb"]
    assert cli._parser().parse_args(words).track == ["wandb", "tensorboard", "wandb"]


def test_a_tracker_that_there_is_not_is_named_with_the_nearest(
    capsys: pytest.CaptureFixture[str],
) -> None:
    said = fails(capsys, "run", "--env=ant", "--track=wandb,tensorbord")
    assert "'tensorbord'; did you mean 'tensorboard'?" in said
