"""Scratch folders are removed, also those of killed processes."""

from __future__ import annotations

import errno
import os
import platform
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
from helpers.tiny import CPU, tiny_task

from mujoco_sail.system import scratch
from mujoco_sail.system.lock import lock_descriptor
from mujoco_sail.system.scratch import remove_leftovers, scratch_folder
from mujoco_sail.training import forecast, plan

KILLED = """
import os, pathlib, platform, signal, sys
host = sys.argv[2]
if host:
    platform.node = lambda: host
from mujoco_sail.system.scratch import scratch_folder
with scratch_folder(pathlib.Path(sys.argv[1])) as folder:
    (folder / "file").write_text("x")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def killed(parent: Path, host: str = "") -> Path:
    """Folder that a killed process leaves behind, of another host if one is named."""
    subprocess.run([sys.executable, "-c", KILLED, str(parent), host], check=False)
    (left,) = parent.iterdir()
    return left


def test_a_folder_is_removed_with_its_content_after_an_error(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), scratch_folder(tmp_path) as folder:  # noqa: PT012
        (folder / "file").write_text("x")
        _ = 1 / 0
    assert list(tmp_path.iterdir()) == []


def test_the_folder_of_a_killed_process_is_removed_by_the_next_one(tmp_path: Path) -> None:
    left = killed(tmp_path)
    with scratch_folder(tmp_path):
        assert not left.exists()
    assert list(tmp_path.iterdir()) == []


def test_the_folder_of_a_killed_command_is_removed_by_the_next_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    killed(tmp_path)
    plan.prepare([tiny_task()], [], [0], CPU, tmp_path / "results")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("suffix", ["2", "-2", ".lan"])
def test_a_folder_of_another_host_is_kept(tmp_path: Path, suffix: str) -> None:
    """Its process may live: the lock of a folder on a shared file system is local to its host."""
    left = killed(tmp_path, platform.node() + suffix)
    with scratch_folder(tmp_path):
        assert (left / "file").exists()


def test_the_name_of_a_host_needs_no_quotes_in_the_path_of_its_folder(tmp_path: Path) -> None:
    left = killed(tmp_path, "Jo's *Büro*/2")
    assert left.name.startswith(".mujoco-sail-scratch-Jo_s__B_ro__2-")
    assert shlex.quote(str(left)) == str(left)


def test_folders_in_use_and_other_folders_are_kept(tmp_path: Path) -> None:
    others = ["mujoco-sail-study", scratch.PREFIX + "results", ".mujoco-sail"]
    for name in others:
        (tmp_path / name).mkdir()
    with scratch_folder(tmp_path) as folder:
        (folder / "file").write_text("x")
        remove_leftovers(tmp_path)
        assert (folder / "file").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(others)


def test_a_folder_that_another_process_is_about_to_remove_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other process has locked it between its creation and this process' lock."""
    made: list[str] = []
    make, held = tempfile.mkdtemp, []

    def raced(**options: Any) -> str:
        made.append(make(**options))
        if len(made) == 1:
            held.append(os.open(made[0], os.O_RDONLY | os.O_DIRECTORY))
            lock_descriptor(held[0])
        return made[-1]

    monkeypatch.setattr(tempfile, "mkdtemp", raced)
    with scratch_folder(tmp_path) as folder:
        assert [str(folder)] == made[1:]
    os.close(held[0])


def test_a_command_runs_without_a_temporary_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none() -> str:
        raise FileNotFoundError(errno.ENOENT, "No usable temporary directory found")

    monkeypatch.setattr(tempfile, "gettempdir", none)
    plan.prepare([tiny_task()], [], [0], CPU, tmp_path)
    assert forecast.seconds_needed(tiny_task(), [], 1, CPU, 1) is None
