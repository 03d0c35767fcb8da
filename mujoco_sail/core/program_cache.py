"""Cache of compiled programs on disk, shared by all processes.

The name of a file ends with the checksum of its content, so that a file that was damaged by a full
disk or a power failure is detected before it is loaded.
"""

import hashlib
import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from filelock import FileLock, Timeout

from mujoco_sail.system.files import write_bytes

LIMIT = 100  # maximum number of programs, of about 2.5 MB each
ABANDONED = 3600.0  # seconds after which an unfinished file is considered abandoned
SAID_AFTER = 5.0  # seconds of waiting for another process before the user is told
SUFFIX = ".so"


def find(
    key: Path, make: Callable[[], bytes], say: Callable[[str], None], waiting: Callable[[], None]
) -> Path:
    """Path of a program, which is created if it is not in the cache.

    Args:
        key: Path without checksum and suffix.
        make: Creates the program; a lock prevents other processes from doing so at the same time.
        say: Called with lines for the user: waiting, damaged files.
        waiting: Called repeatedly while another process creates the program; may raise an
            exception to cancel.

    Raises:
        OSError: The folder cannot be used.
    """
    if found := _whole(key):
        return found
    key.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(key.with_suffix(".lock"))
    _take(lock, say, waiting)
    try:
        os.utime(lock.lock_file)  # it is not abandoned, see `_tidy`
        if found := _whole(key):  # created by another process in the meantime
            return found
        for path in _files(key):
            say(f"{path} is damaged: it is removed and compiled again")
            path.unlink(missing_ok=True)
        program = make()
        path = key.with_name(f"{key.name}-{_checksum(program)}{SUFFIX}")
        write_bytes(path, program)
        _tidy(key.parent)
        return path
    finally:
        lock.release()


def _take(lock: FileLock, say: Callable[[str], None], waiting: Callable[[], None]) -> None:
    began, said = time.monotonic(), False
    while True:
        with suppress(Timeout):
            lock.acquire(timeout=0)
            return
        waiting()
        if not said and time.monotonic() - began > SAID_AFTER:
            say(f"waiting until this update is compiled, which has begun ({lock.lock_file})")
            said = True
        time.sleep(0.1)


def _whole(key: Path) -> Path | None:
    """File of a program if its checksum is correct, else None."""
    for path in _files(key):
        with suppress(FileNotFoundError):
            if path.name == f"{key.name}-{_checksum(path.read_bytes())}{SUFFIX}":
                with suppress(OSError):
                    os.utime(path)  # least recently used files are removed first
                return path
    return None


def _files(key: Path) -> list[Path]:
    return list(key.parent.glob(f"{key.name}-*{SUFFIX}"))


def _checksum(program: bytes) -> str:
    return hashlib.sha256(program).hexdigest()[:16]


def _tidy(folder: Path) -> None:
    """Removes the least recently used programs, and files of killed processes."""

    def newest_first(pattern: str) -> list[tuple[float, Path]]:
        found = []
        for path in folder.glob(pattern):
            with suppress(OSError):
                found.append((path.stat().st_mtime, path))
        return sorted(found, reverse=True)

    # Earlier versions stored programs in archives.
    old = newest_first(f"update-*{SUFFIX}")[LIMIT:] + newest_first("update-*.pt2")
    unfinished = newest_first(".update-*") + newest_first("update-*.lock")
    limit = time.time() - ABANDONED
    for _, path in [*old, *(each for each in unfinished if each[0] < limit)]:
        with suppress(OSError):
            path.unlink()
