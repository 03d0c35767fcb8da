"""Atomic writing of files, and a check before it."""

import errno
import os
from pathlib import Path

from mujoco_sail.system.errors import UserError, one_line

# Errors of file systems that cannot sync a folder: SMB, shared folders of virtual machines.
CANNOT_SYNC = (errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS)


class WriteError(OSError):
    """Error when a file cannot be written, for example because the disk is full."""

    def __str__(self) -> str:
        """Message in one line, safe for a terminal: the file and the reason."""
        return one_line(f"{self.filename}: cannot be written: {self.strerror}")


def location(text: str) -> Path:
    """Parses the path of a file or folder given on the command line.

    A leading `~` is the home folder; a shell leaves it as it is in `--results=~/x`.

    Raises:
        ValueError: The text cannot be a path.
    """
    if not text or b"\0" in os.fsencode(text):
        raise ValueError("not a path")
    path = home_expanded(text)
    try:
        os.lstat(path)
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            raise ValueError("too long for a path") from error
    return path


def home_expanded(text: str) -> Path:
    """Path with a leading `~` replaced, where there is such a home folder."""
    return Path(os.path.expanduser(text))


def read_text(path: Path) -> str:
    """A text that people write: UTF-8, with or without a byte order mark, lines ended in any way.

    Raises:
        OSError: It cannot be read.
        ValueError: It is not UTF-8.
    """
    return path.read_text(encoding="utf-8-sig")


def holds_nothing(path: Path) -> bool:
    """Whether a file is absent, empty, or only zeros (as after a power failure)."""
    if not os.path.lexists(path):
        return True
    try:
        return not path.read_bytes().strip(b"\0")
    except OSError:
        return False


def check_writable(folder: Path, named: str) -> None:
    """Creates a folder and checks that files can be written there.

    Args:
        folder: Folder to check.
        named: What the user has named, such as `--out FOLDER`, for the message.

    Raises:
        UserError: The folder cannot be created, or no file in it.
    """
    probe = folder / f".writable-{os.getpid()}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink(missing_ok=True)  # removed by a process with the same number in a container
    except OSError as error:
        raise UserError(f"{named}: cannot be written: {error.strerror}") from error


def write_text(path: Path, text: str) -> None:
    """Replaces a file atomically by a text in UTF-8."""
    write_bytes(path, text.encode("utf-8"))


def write_bytes(path: Path, data: bytes) -> None:
    """Replaces a file atomically: readers see the old or the new content, never a part.

    Args:
        path: File to write; its folder is created if needed.
        data: New content.

    Raises:
        WriteError: The disk is full, or the folder cannot be written; the old content is kept.
    """
    # In the same folder, because a rename is atomic only within one file system.
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with temporary.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
            sync_folder(path.parent)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise WriteError(error.errno, error.strerror, str(path)) from error


def remove_leftovers(folder: Path) -> None:
    """Removes temporary files of killed writers; no other process may write to the folder."""
    for path in folder.glob(".*"):
        if path.suffix.removeprefix(".").isdigit():
            path.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Makes a rename durable in case of a power failure, if the file system supports it."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except PermissionError:
        return  # some file systems do not let folders be opened
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in CANNOT_SYNC:
            raise
    finally:
        os.close(handle)
