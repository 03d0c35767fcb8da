"""Files that are either complete or absent, whatever interrupts the writer."""

import os
from pathlib import Path


def folder(text: str) -> Path:
    """The folder that an argument of a command names.

    Raises:
        ValueError: No folder can have this name.
    """
    if not text or b"\0" in os.fsencode(text):
        raise ValueError("no path")
    return Path(text)


def write_text(path: Path, text: str) -> None:
    """Replaces a file by a text, as UTF-8 and in one step."""
    write_bytes(path, text.encode("utf-8"))


def write_bytes(path: Path, data: bytes) -> None:
    """Replaces a file in one step: a reader sees the old content or the new, never a part.

    Args:
        path: File to write; its folder is made where there is none.
        data: The new content.

    Raises:
        OSError: The disk is full, or the folder cannot be written; the old content stays.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # In the same folder, for a rename is atomic only within one file system.
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
