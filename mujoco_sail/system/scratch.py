"""Folders for files that nobody needs afterwards."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from mujoco_sail.system.lock import lock_descriptor

PREFIX = "mujoco-sail-"


@contextmanager
def scratch_folder(parent: Path | None = None) -> Iterator[Path]:
    """A folder of its own, removed at the end.

    A process that is killed leaves its folder behind; the next one that makes a folder in the same
    place removes it.

    Args:
        parent: Where the folder is made; by default where TMPDIR says.

    Yields:
        The folder.

    Raises:
        OSError: No folder can be made.
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
    """Removes the folders of processes that were killed."""
    for folder in parent.glob(f"{PREFIX}*"):
        with suppress(OSError):  # it is of another user, or in use
            handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                lock_descriptor(handle)
                shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(handle)


def _made(parent: Path) -> tuple[Path, int]:
    """A new folder and the handle that keeps it locked while this process lives."""
    while True:
        folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=parent))
        # Another process may take it for a leftover before it is locked.
        with suppress(FileNotFoundError):
            handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
            with suppress(OSError):  # file systems without locks have nobody who removes it
                lock_descriptor(handle)
            if folder.exists():
                return folder, handle
            os.close(handle)
