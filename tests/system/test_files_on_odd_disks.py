"""File systems that cannot sync files or folders."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from mujoco_sail.system.files import WriteError, check_writable, write_text


def refuse_to_sync(monkeypatch: pytest.MonkeyPatch, code: int, *, folders: bool) -> None:
    fsync = os.fsync

    def sync(handle: int) -> None:
        if stat.S_ISDIR(os.fstat(handle).st_mode) == folders:
            raise OSError(code, os.strerror(code))
        fsync(handle)

    monkeypatch.setattr(os, "fsync", sync)


@pytest.mark.parametrize("code", [errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS])
def test_a_folder_that_cannot_be_synced_is_no_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, code: int
) -> None:
    refuse_to_sync(monkeypatch, code, folders=True)
    write_text(tmp_path / "file", "text")
    assert (tmp_path / "file").read_text() == "text"
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.parametrize("code", [errno.EACCES, errno.EPERM])
def test_a_folder_that_cannot_be_opened_is_no_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, code: int
) -> None:
    real = os.open

    def opened(path: Any, *args: Any, **kwargs: Any) -> int:
        if Path(path).is_dir():
            raise OSError(code, os.strerror(code), str(path))
        return real(path, *args, **kwargs)

    monkeypatch.setattr(os, "open", opened)
    write_text(tmp_path / "file", "text")
    assert (tmp_path / "file").read_text() == "text"


@pytest.mark.parametrize(
    ("code", "folders"), [(errno.EINVAL, False), (errno.EIO, False), (errno.EIO, True)]
)
def test_a_file_that_cannot_be_synced_and_a_disk_that_fails_are_errors(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, code: int, folders: bool
) -> None:
    refuse_to_sync(monkeypatch, code, folders=folders)
    with pytest.raises(WriteError, match="file: cannot be written"):
        write_text(tmp_path / "file", "text")


def test_a_folder_that_a_process_of_the_same_number_checks_too_is_no_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """In another container; its process removes the file that both have created."""
    touch = Path.touch

    def raced(path: Path) -> None:
        touch(path)
        path.unlink()

    monkeypatch.setattr(Path, "touch", raced)
    check_writable(tmp_path / "results", "--results")
    assert os.listdir(tmp_path / "results") == []
