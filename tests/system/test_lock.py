"""Locks: only one process trains a run at a time."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from helpers.command_line import run
from helpers.runs import members_of
from helpers.tiny import tiny_task

from mujoco_sail.results.write import RunWriter, lock_of, run_folder
from mujoco_sail.system.errors import UserError
from mujoco_sail.system.lock import Lock
from mujoco_sail.training.selection import locked, unfinished_members


def test_a_second_process_names_the_first_and_exits(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mujoco_sail.system.lock.PATIENCE", 0)
    lock = Lock(tmp_path / "half_cheetah" / "pebble" / ".seed_0.lock")
    assert run(tmp_path, "half_cheetah", "pebble") == 2
    assert f"seed_0 is in use by process {os.getpid()}" in capsys.readouterr().err
    assert not (tmp_path / "half_cheetah" / "pebble" / "seed_0").exists()
    lock.release()


def test_the_lock_of_a_dead_process_is_taken_over(tmp_path: Path) -> None:
    path = tmp_path / "half_cheetah" / "pebble" / ".seed_0.lock"
    path.parent.mkdir(parents=True)
    path.write_text("process 999999 on a machine that is no more\n")
    Lock(path).release()
    assert not path.exists()


def test_a_left_lock_of_a_complete_run_is_removed_and_a_held_one_is_not(tmp_path: Path) -> None:
    members = members_of([("sac", 0), ("sac", 1)])
    task, spec = tiny_task(), members[0].spec
    for seed in (0, 1):
        writer = RunWriter(run_folder(tmp_path, task, "sac", seed), task, spec, seed, "cpu")
        writer.write_status("complete", 1.0)
    left, held = (lock_of(run_folder(tmp_path, task, "sac", seed)) for seed in (0, 1))
    left.write_text("process 1 on a node\n")
    holder = Lock(held)
    assert unfinished_members(task, [spec], [0, 1], tmp_path) == []
    assert not left.exists()
    assert held.exists()
    holder.release()


def test_a_lock_on_a_full_disk_holds_without_a_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*arguments: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    path = tmp_path / ".seed_0.lock"
    monkeypatch.setattr(os, "pwrite", full)
    lock = Lock(path)
    with pytest.raises(UserError, match="seed_0 is in use by another process"):
        Lock(path, patience=0)
    lock.release()
    Lock(path, patience=0).release()


@pytest.mark.parametrize("code", [errno.EROFS, errno.ESTALE])
def test_all_locks_are_released_on_a_disk_that_has_become_read_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    members = members_of([("sac", 0), ("sac", 1)])

    def refused(path: Path, **options: object) -> None:
        raise OSError(code, os.strerror(code), str(path))

    with monkeypatch.context() as patch, locked(tiny_task(), members, tmp_path, print, False):
        patch.setattr(Path, "unlink", refused)
    paths = sorted(tmp_path.rglob(".seed_*.lock"))
    assert len(paths) == 2
    for path in paths:
        Lock(path, patience=0).release()
    assert not list(tmp_path.rglob(".seed_*.lock"))


def test_a_lock_file_whose_close_reports_a_failed_write_is_released(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    close = os.close

    def reports(handle: int) -> None:
        close(handle)
        raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))

    lock = Lock(tmp_path / ".seed_0.lock")
    with monkeypatch.context() as patch:
        patch.setattr(os, "close", reports)
        lock.release()
    assert not list(tmp_path.iterdir())
