"""Complete benchmarks, from the command line to files, table and figure."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pandas as pd
import pytest
from helpers.command_line import run
from helpers.tiny import TINY

from mujoco_sail.cli import main


def test_a_benchmark_writes_its_files_its_table_and_its_figure(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert run(out, "half_cheetah", "sac,pebble,sail_revkl", "2", workers=True) == 0
    assert capsys.readouterr().out.startswith("half_cheetah: 6 members, about 0.")
    folders = sorted(out.glob("*/*/*"))
    assert len(folders) == 6
    for folder in folders:
        about = tomllib.loads((folder / "run.toml").read_text())
        assert about["status"] == "complete"
        assert about["env"]["steps"] == TINY["steps"]
        assert about["versions"]["mujoco"] == "3.3.0"
        evaluations = pd.read_csv(folder / "evaluations.csv")
        assert evaluations["step"].tolist() == [75, 150]
        assert evaluations["episode_return"].notna().all()
        assert evaluations["success_rate"].isna().all()
        training = pd.read_csv(folder / "training.csv")
        # One update per step from step 60 on, and 100 more after the first session.
        asks = about["agent"]["name"] != "sac"
        assert training["updates"].tolist() == [16 + 0, 91 + 100 * asks]
        labels = pd.read_csv(folder / "feedback.csv")
        assert len(labels) == (8 if asks else 0)
        if asks:
            assert training["reward_updates"].iloc[-1] > 0
            assert training["held_out_accuracy"].between(0, 1).tolist() == [False, True]
    assert main(["table", "--results", str(out)]) == 0
    table = capsys.readouterr().out
    assert all(name in table for name in ("sac", "pebble", "sail_revkl", "half_cheetah"))
    assert main(["plot", "--results", str(out), "--out", str(tmp_path / "figures")]) == 0
    assert {p.suffix for p in (tmp_path / "figures").iterdir()} == {".png", ".svg"}


def test_a_complete_run_is_not_repeated_and_a_missing_seed_is_added(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path, "half_cheetah", "sac") == 0
    first = tmp_path / "half_cheetah" / "sac" / "seed_0" / "run.toml"
    before = first.stat().st_mtime_ns
    assert run(tmp_path, "half_cheetah", "sac", "2") == 0
    assert "1 of 2 runs are complete already" in capsys.readouterr().out
    assert first.stat().st_mtime_ns == before
    assert (tmp_path / "half_cheetah" / "sac" / "seed_1" / "run.toml").is_file()


def test_a_command_with_only_complete_runs_needs_no_writable_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(path: Path, **options: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))

    assert run(tmp_path, "inverted_pendulum", "random") == 0
    for name in ("touch", "mkdir", "unlink"):
        monkeypatch.setattr(Path, name, refused)
    assert run(tmp_path, "inverted_pendulum", "random") == 0
    assert "1 of 1 runs are complete already" in capsys.readouterr().out
    assert run(tmp_path, "inverted_pendulum", "random", "2") == 2
    assert f"--results {tmp_path}: cannot be written: Read-only" in capsys.readouterr().err


def test_a_failed_run_is_reported_recorded_and_gives_exit_code_1(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    refusing = ("--teacher", "skip", "--set", "env.oracle.skip=50.0")
    refusing += ("--set", "env.reward_range=[-100.0, 1.0]")
    code = run(tmp_path, "half_cheetah", "pebble,sac", "1", *refusing, workers=True)
    assert code == 1
    assert "pebble seed 0: step 80: teacher 'skip' refused" in capsys.readouterr().err
    about = tomllib.loads((tmp_path / "half_cheetah/pebble/seed_0/run.toml").read_text())
    assert about["status"] == "failed"
    assert "refused" in about["failure"]
    about = tomllib.loads((tmp_path / "half_cheetah/sac/seed_0/run.toml").read_text())
    assert about["status"] == "complete"


def test_the_command_line_starts_without_loading_the_libraries() -> None:
    code = """import sys, mujoco_sail.cli
heavy = {"torch", "pandas", "numpy", "scipy", "mujoco", "gymnasium"} & {*sys.modules}
assert not heavy, heavy"""
    subprocess.run([sys.executable, "-c", code], check=True)
