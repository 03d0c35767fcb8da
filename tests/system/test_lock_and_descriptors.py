"""File systems without locks, systems without `fcntl`, and few open files."""

from __future__ import annotations

import errno
import fcntl
import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from helpers.command_line import overrides
from helpers.tiny import TINY

from mujoco_sail.cli import main
from mujoco_sail.system.errors import UserError
from mujoco_sail.system.lock import Lock, allow_open_files

OPTIONS = ["--env", "half_cheetah", "--agents", "pebble", "--protocol", "quick", "--device", "cpu"]
OPTIONS += overrides(TINY)


def refuse(monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    def flock(handle: int, operation: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "flock", flock)
    # A lock that waits fails the test.
    never = SimpleNamespace(monotonic=time.monotonic, sleep=lambda _: pytest.fail("waited"))
    monkeypatch.setattr("mujoco_sail.system.lock.time", never)


@pytest.mark.parametrize("code", [errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK])
def test_a_file_system_without_locks_gives_a_lock_that_does_not_bind(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, code: int
) -> None:
    refuse(monkeypatch, code)
    lock = Lock(tmp_path / ".seed_0.lock")
    assert not lock.binding
    lock.release()
    assert not list(tmp_path.iterdir())


def test_a_file_system_with_locks_gives_one_that_binds(tmp_path: Path) -> None:
    lock = Lock(tmp_path / ".seed_0.lock")
    assert lock.binding
    lock.release()


@pytest.mark.parametrize("code", [errno.EACCES, errno.EROFS, errno.EIO])
def test_another_error_of_a_lock_is_reported_at_once(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, code: int
) -> None:
    refuse(monkeypatch, code)
    with pytest.raises(UserError, match=f"seed_0.lock: cannot be locked: {os.strerror(code)}"):
        Lock(tmp_path / ".seed_0.lock")


def test_a_lock_file_that_cannot_be_written_is_reported_at_once(tmp_path: Path) -> None:
    (tmp_path / "pebble").write_text("a file where a folder should be")
    with pytest.raises(UserError, match="cannot be locked: "):
        Lock(tmp_path / "pebble" / ".seed_0.lock")


def test_a_benchmark_without_locks_warns_once_and_continues(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    refuse(monkeypatch, errno.ENOSYS)
    assert main(["run", *OPTIONS, "--seeds", "2", "--results", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert said.count("has no locks") == 1
    assert "a second command on these runs would not be stopped" in said
    assert "overwrite their files" in said
    assert len(list(tmp_path.glob("half_cheetah/pebble/seed_*/policy*"))) > 0
    assert not list(tmp_path.glob("*/*/.seed_*"))


# --- systems without `fcntl` ---


@pytest.mark.parametrize("command", [["run", *OPTIONS], ["speed"]])
def test_a_system_without_fcntl_gives_one_line_that_names_the_module(
    tmp_path: Path, command: list[str]
) -> None:
    """For example Windows."""
    program = (
        "import sys; sys.modules['fcntl'] = None\n"
        "from mujoco_sail.cli import main\n"
        "sys.exit(main(sys.argv[1:]))"
    )
    process = subprocess.run(
        [sys.executable, "-c", program, *command],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    assert process.returncode == 2
    assert process.stderr.startswith("mujoco-sail: ")
    assert "'fcntl'" in process.stderr
    assert len(process.stderr.splitlines()) == 1
    assert not list(tmp_path.iterdir())


# --- few open files ---


def run_with(soft: int, hard: int, results: Path, *more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "mujoco_sail", "run", *OPTIONS, "--results", str(results), *more],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parents[2],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard)),
    )


SHORT = ["--set", "env.steps=80", "--set", "env.labels=4"]


def test_many_members_train_if_the_limit_of_open_files_can_be_raised(tmp_path: Path) -> None:
    process = run_with(64, 4096, tmp_path, "--seeds", "60", *SHORT)
    assert process.stderr == ""
    assert process.returncode == 0
    assert len(list(tmp_path.glob("half_cheetah/pebble/seed_*/policy*"))) >= 60


def test_more_members_than_open_files_are_an_error_before_anything_is_written(
    tmp_path: Path,
) -> None:
    process = run_with(64, 64, tmp_path, "--seeds", "60", *SHORT)
    assert process.returncode == 2
    assert len(process.stderr.splitlines()) == 1
    assert "60 members need about" in process.stderr
    assert "open files, 64 are allowed" in process.stderr
    assert not list(tmp_path.iterdir())


def test_few_members_train_with_few_open_files(tmp_path: Path) -> None:
    process = run_with(64, 64, tmp_path, "--seeds", "3", *SHORT)
    assert process.stderr == ""
    assert process.returncode == 0


@pytest.mark.parametrize("soft", [resource.RLIM_INFINITY, 10_000])
def test_a_sufficient_limit_is_not_changed(monkeypatch: pytest.MonkeyPatch, soft: int) -> None:
    changed: list[Any] = []
    monkeypatch.setattr(resource, "getrlimit", lambda which: (soft, resource.RLIM_INFINITY))
    monkeypatch.setattr(resource, "setrlimit", lambda *arguments: changed.append(arguments))
    allow_open_files(60, 4)
    assert not changed
