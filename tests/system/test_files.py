"""Atomic writing of files."""

from __future__ import annotations

from pathlib import Path

import pytest

from mujoco_sail.system import files


def test_an_interrupted_write_leaves_the_old_file_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "new" / "file.txt"
    files.write_text(file, "old ä\n")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        files.write_text(file, "new\n")
    assert list(file.parent.iterdir()) == [file]
    assert file.read_bytes() == "old ä\n".encode()


def test_the_message_of_a_file_that_cannot_be_written_is_one_safe_line() -> None:
    error = files.WriteError(30, "Read-only file system", "a\nb\x1b[2J.csv")
    assert str(error) == "a b?[2J.csv: cannot be written: Read-only file system"
