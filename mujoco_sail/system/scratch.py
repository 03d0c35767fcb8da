"""Temporary folders, removed even after their process was killed."""

import os
import platform
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from mujoco_sail.system.lock import NO_LOCKS, lock_descriptor

# Locks of folders are local to a host, also on file systems that several hosts share.
HOST = re.sub(r"[^a-zA-Z0-9.-]", "_", platform.node())
PREFIX = f".mujoco-sail-scratch-{HOST}-"
NAME = re.compile(re.escape(PREFIX) + "[a-z0-9_]{8}")  # as `tempfile.mkdtemp` completes the prefix


@contextmanager
def scratch_folder(parent: Path | None = None) -> Iterator[Path]:
    """Creates a temporary folder and removes it at the end, as a context manager.

    The folder of a killed process is removed by the next process of the same host that creates one
    in the same parent.

    Args:
        parent: Parent folder; by default the temporary folder of the system, or TMPDIR.

    Yields:
        The folder.

    Raises:
        OSError: No folder can be created.
    """
    parent = parent or Path(tempfile.gettempdir())
    remove_leftovers(parent)
    folder, handle = _made(parent)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(handle)


def remove_leftovers(parent: Path) -> None:
    """Removes folders of killed processes of this host."""
    for folder in filter(lambda path: NAME.fullmatch(path.name), parent.glob(f"{PREFIX}*")):
        with suppress(OSError):  # in use, or owned by another user
            handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                lock_descriptor(handle)
                shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(handle)


def _made(parent: Path) -> tuple[Path, int]:
    """Creates a folder, and the handle that locks it as long as this process lives."""
    while True:
        folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=parent))
        with suppress(FileNotFoundError):  # another process removed it before it was locked
            handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
            if _keeps(handle) and folder.exists():
                return folder, handle
            os.close(handle)


def _keeps(handle: int) -> bool:
    """Locks a new folder; returns False if another process has, which is about to remove it."""
    try:
        lock_descriptor(handle)
    except OSError as error:
        return error.errno in NO_LOCKS  # without locks, no process removes it
    return True
