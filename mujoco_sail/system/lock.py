"""File locks, so that one process writes to a run folder; the kernel frees them at exit."""

import errno
import os
import platform
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

from mujoco_sail.system.errors import UserError

try:
    import fcntl
    import resource
    from multiprocessing.reduction import DupFd
except ImportError as missing:
    raise UserError(
        f"this needs Linux, macOS or WSL: this Python has no module '{missing.name}', without "
        "which runs cannot be locked"
    ) from missing

# Workers need a moment to notice that their main process was killed.
PATIENCE = 3.0  # seconds
# Errors of file systems without locks: Lustre, some NFS.
NO_LOCKS = (errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK)
# Files that a process opens besides those at its start and its locks: pipes and files of libraries.
SPARE = 32
PER_WORKER = 6  # pipes to a worker, its queue, and their other ends while it starts


def lock_descriptor(handle: int) -> None:
    """Locks an open file or folder exclusively, without waiting.

    Raises:
        OSError: It is locked, or its file system has no locks.
    """
    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)


class Lock:
    """Exclusive lock on a file, held until this process and all workers that got it have ended.

    Args:
        path: Lock file; it names the process that holds the lock, unless the disk is full.
        patience: Seconds to wait for another process to release the lock, by default `PATIENCE`.

    Attributes:
        binding: Whether the lock excludes other processes; some file systems have no locks.

    Raises:
        UserError: Another process holds the lock, or the file cannot be created or locked.
    """

    def __init__(self, path: Path, patience: float | None = None) -> None:
        self.path, self.binding = path, True
        self.patience = PATIENCE if patience is None else patience
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._wait()
        except OSError as error:
            raise UserError(f"{path}: cannot be locked: {error.strerror}") from error
        with suppress(OSError):  # full disk: the name is only for a message, the lock holds
            os.truncate(self.handle, 0)
            os.pwrite(self.handle, f"process {os.getpid()} on {platform.node()}\n".encode(), 0)

    def _wait(self) -> None:
        deadline = time.monotonic() + self.patience
        while not self._take():
            if time.monotonic() > deadline:
                holder = self.path.read_text(encoding="utf-8", errors="replace").strip()
                name = self.path.name.strip(".").removesuffix(".lock")
                raise UserError(
                    f"{self.path.parent / name} is in use by {holder or 'another process'}; "
                    "wait for it, stop it, or choose another --results folder"
                )
            time.sleep(0.05)

    def _take(self) -> bool:
        self.handle = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            lock_descriptor(self.handle)
            # Another process may have removed the file since it was opened.
            if os.path.samestat(os.fstat(self.handle), os.stat(self.path)):
                return True
        except (BlockingIOError, FileNotFoundError):
            pass
        except OSError as error:
            if error.errno in NO_LOCKS:
                self.binding = False
                return True
            os.close(self.handle)
            raise
        os.close(self.handle)
        return False

    def release(self) -> None:
        """Removes the file and releases the lock; to be called by the process that took it.

        A file that cannot be removed stays, and locks nothing.
        """
        with suppress(OSError):  # the disk has become read-only, or its server has lost the file
            self.path.unlink(missing_ok=True)
        with suppress(OSError):  # NFS reports failed writes here; the file is closed all the same
            os.close(self.handle)

    def __getstate__(self) -> dict[str, Any]:
        """Passes the open file to a worker; the lock is held until both have closed it."""
        return {**vars(self), "handle": DupFd(self.handle)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Receives the open file in a worker."""
        vars(self).update(state, handle=state["handle"].detach())


def remove_if_free(path: Path) -> None:
    """Removes the lock file of a killed process, unless another process holds it by now."""
    if path.exists():
        with suppress(UserError):
            Lock(path, 0).release()


def allow_open_files(locks: int, workers: int) -> None:
    """Raises the limit of open files of this process and its workers, if needed.

    Args:
        locks: Number of locks that each process holds.
        workers: Number of worker processes that will be started.

    Raises:
        UserError: The system does not allow as many open files.
    """
    needed = psutil.Process().num_fds() + locks + PER_WORKER * workers + SPARE
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or needed <= soft:
        return
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))
    except (OSError, ValueError) as error:
        raise UserError(
            f"{locks} members need about {needed} open files, {hard} are allowed (ulimit -n); "
            "allow more, or take fewer seeds or agents at once"
        ) from error
