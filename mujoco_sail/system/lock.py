"""One writer per run folder: a lock that the kernel takes back from the dead."""

import errno
import os
import platform
import time
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
        "which no run can be kept to one process"
    ) from missing

# Workers of a main process that was killed need a moment to notice it.
PATIENCE = 3.0  # seconds
# How file systems without locks say so: Lustre, some NFS.
NO_LOCKS = (errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK)
# Files that a process has open besides what it started with and its locks: its pipes, and what
# libraries read.
SPARE = 32
PER_WORKER = 4  # pipes to a worker, and the ends that it is handed while it starts


class Lock:
    """Holds a file locked while this process, or a worker that was handed the lock, lives.

    Args:
        path: The file; it tells who holds it.
        patience: Seconds for which the holder is waited for, by default `PATIENCE`.

    Attributes:
        binding: Whether others are kept out; some file systems have no locks.

    Raises:
        UserError: Another process holds it; it is named. Or the file cannot be written.
    """

    def __init__(self, path: Path, patience: float | None = None) -> None:
        self.path, self.binding = path, True
        self.patience = PATIENCE if patience is None else patience
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._wait()
            os.truncate(self.handle, 0)
            os.pwrite(self.handle, f"process {os.getpid()} on {platform.node()}\n".encode(), 0)
        except OSError as error:
            raise UserError(f"{path}: cannot be locked: {error.strerror}") from error

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
            fcntl.flock(self.handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # The last holder may have removed the file since it was opened.
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
        """Removes the file and lets go; for the process that took the lock."""
        self.path.unlink(missing_ok=True)
        os.close(self.handle)

    def __getstate__(self) -> dict[str, Any]:
        """Hands the open file to a worker: the lock lasts until both have closed it."""
        return {**vars(self), "handle": DupFd(self.handle)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Takes the open file over."""
        vars(self).update(state, handle=state["handle"].detach())


def allow_open_files(locks: int, workers: int) -> None:
    """Raises the number of files that this process and its workers may have open, where needed.

    Args:
        locks: That all of them hold.
        workers: Processes that will be started.

    Raises:
        UserError: The system allows fewer.
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
