"""Files that are either complete or absent, whatever interrupts the writer."""

import errno
import os
from pathlib import Path

# How file systems that cannot sync a folder say so: SMB, shared folders of virtual machines.
CANNOT_SYNC = (errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS)


class WriteError(OSError):
    """A file of the suite could not be written: the disk is full, or refuses."""

    def __str__(self) -> str:
        """One line: the file and the reason."""
        return f"{self.filename}: cannot be written: {self.strerror}"


def folder(text: str) -> Path:
    """The folder that an argument of a command names.

    Raises:
        ValueError: No folder can have this name.
    """
    if not text or b"\0" in os.fsencode(text):
        raise ValueError("no path")
    return Path(text)


def holds_nothing(path: Path) -> bool:
    """Whether a file is absent, or lost its content with the power: no bytes, or only zeros."""
    if not os.path.lexists(path):
        return True
    try:
        return not path.read_bytes().strip(b"\0")
    except OSError:
        return False


def write_text(path: Path, text: str) -> None:
    """Replaces a file by a text, as UTF-8 and in one step."""
    write_bytes(path, text.encode("utf-8"))


def write_bytes(path: Path, data: bytes) -> None:
    """Replaces a file in one step: a reader sees the old content or the new, never a part.

    Args:
        path: File to write; its folder is made where there is none.
        data: The new content.

    Raises:
        WriteError: The disk is full, or the folder cannot be written; the old content stays.
    """
    # In the same folder, for a rename is atomic only within one file system.
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with temporary.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
            _sync_folder(path.parent)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise WriteError(error.errno, error.strerror, str(path)) from error


def remove_leftovers(folder: Path) -> None:
    """Removes what writers that were killed have left in a folder that nobody else writes."""
    for path in folder.glob(".*"):
        if path.suffix.removeprefix(".").isdigit():
            path.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    """Makes a rename last through a loss of power, where the file system can do that."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except PermissionError:
        return  # some let nobody open a folder
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in CANNOT_SYNC:
            raise
    finally:
        os.close(handle)
