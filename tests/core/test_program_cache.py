"""Cache of compiled programs: damage, limits and waiting."""

from __future__ import annotations

import errno
import fcntl
import os
import time
from pathlib import Path

import pytest

from mujoco_sail.core import program_cache

PROGRAM = b"a program" * 1000


class Maker:
    """Creates the program and counts the calls."""

    def __init__(self) -> None:
        self.times = 0
        self.said: list[str] = []

    def __call__(self) -> bytes:
        self.times += 1
        return PROGRAM

    def find(self, key: Path) -> Path:
        return program_cache.find(key, self, self.said.append, lambda: None)


def test_a_program_is_created_once(tmp_path: Path) -> None:
    made = Maker()
    paths = {made.find(tmp_path / "new" / "update-1") for _ in range(2)}
    assert made.times == 1
    assert made.said == []
    assert [path.read_bytes() for path in paths] == [PROGRAM]


@pytest.mark.parametrize(
    "damage", [b"", PROGRAM[:-1], b"\0" * len(PROGRAM), b"x" + PROGRAM[1:]],
    ids=["empty", "cut", "zeros", "changed"],
)  # fmt: skip
def test_a_damaged_program_is_reported_and_replaced(tmp_path: Path, damage: bytes) -> None:
    made, key = Maker(), tmp_path / "update-1"
    path = made.find(key)
    path.write_bytes(damage)
    assert made.find(key).read_bytes() == PROGRAM
    assert made.times == 2
    assert made.said == [f"{path} is damaged: it is removed and compiled again"]
    assert [path.suffix for path in tmp_path.glob("update-1-*")] == [".so"]


def test_a_full_disk_leaves_no_incomplete_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        Maker().find(tmp_path / "update-1")
    assert [path for path in tmp_path.iterdir() if path.suffix != ".lock"] == []


def test_the_most_recently_used_programs_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(program_cache, "LIMIT", 3)
    made = Maker()
    for number in range(3):
        path = made.find(tmp_path / f"update-{number}")
        os.utime(path, (number, number))
    (tmp_path / "update-of-an-earlier-version.pt2").touch()
    made.find(tmp_path / "update-0")  # used again
    made.find(tmp_path / "update-3")
    left = sorted(path.name.split("-")[1] for path in tmp_path.glob("update-*-*"))
    assert left == ["0", "2", "3"]


def test_abandoned_files_of_killed_processes_are_removed(tmp_path: Path) -> None:
    fragments = [tmp_path / f".update-9-0.so.{number}" for number in (1, 2)]
    for path in fragments:
        path.touch()
    long_ago = time.time() - 2 * program_cache.ABANDONED
    os.utime(fragments[0], (long_ago, long_ago))
    Maker().find(tmp_path / "update-1")
    assert [path.exists() for path in fragments] == [False, True]


def test_waiting_for_another_process_is_reported_and_can_be_cancelled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(program_cache, "SAID_AFTER", 0.0)
    said: list[str] = []

    def waiting() -> None:
        if said:
            raise KeyboardInterrupt

    with (tmp_path / "update-1.lock").open("w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(KeyboardInterrupt):
            program_cache.find(tmp_path / "update-1", Maker(), said.append, waiting)
    assert said == [
        f"waiting until this update is compiled, which has begun ({tmp_path / 'update-1.lock'})"
    ]
