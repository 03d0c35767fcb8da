"""Scratch folders are removed, also those of killed processes."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from helpers.tiny import CPU, tiny_task

from mujoco_sail.system.scratch import remove_leftovers, scratch_folder
from mujoco_sail.training import plan

KILLED = """
import os, pathlib, signal, sys
from mujoco_sail.system.scratch import scratch_folder
with scratch_folder(pathlib.Path(sys.argv[1])) as folder:
    (folder / "file").write_text("x")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_folder_is_removed_with_its_content_after_an_error(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), scratch_folder(tmp_path) as folder:  # noqa: PT012
        (folder / "file").write_text("x")
        _ = 1 / 0
    assert list(tmp_path.iterdir()) == []


def test_the_folder_of_a_killed_process_is_removed_by_the_next_one(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], check=False)
    (left,) = tmp_path.iterdir()
    with scratch_folder(tmp_path):
        assert not left.exists()
    assert list(tmp_path.iterdir()) == []


def test_the_folder_of_a_killed_command_is_removed_by_the_next_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], check=False)
    assert len(list(tmp_path.iterdir())) == 1
    plan.prepare([tiny_task()], [], [0], CPU, tmp_path / "results")
    assert [path.name for path in tmp_path.iterdir()] == ["results"]


def test_folders_in_use_and_other_folders_are_kept(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    with scratch_folder(tmp_path) as folder:
        (folder / "file").write_text("x")
        remove_leftovers(tmp_path)
        assert (folder / "file").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["other"]
