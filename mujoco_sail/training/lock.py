"""One writer per run folder: a lock that the kernel takes back from the dead."""

import fcntl
import os
import platform
import time
from multiprocessing.reduction import DupFd
from pathlib import Path
from typing import Any

from mujoco_sail.recipes.settings import RecipeError

# Workers of a main process that was killed need a moment to notice it.
PATIENCE = 3.0  # seconds


class Lock:
    """Holds a file locked while this process, or a worker that was handed the lock, lives.

    Args:
        path: The file; it tells who holds it.

    Raises:
        RecipeError: Another process holds it; it is named.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        deadline = time.monotonic() + PATIENCE
        while not self._take():
            if time.monotonic() > deadline:
                holder = path.read_text(encoding="utf-8", errors="replace").strip()
                name = path.name.strip(".").removesuffix(".lock")
                raise RecipeError(
                    f"{path.parent / name} is in use by {holder or 'another process'}; "
                    "wait for it, stop it, or choose another --results folder"
                )
            time.sleep(0.05)
        os.truncate(self.handle, 0)
        os.pwrite(self.handle, f"process {os.getpid()} on {platform.node()}\n".encode(), 0)

    def _take(self) -> bool:
        self.handle = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(self.handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # The last holder may have removed the file since it was opened.
            if os.path.samestat(os.fstat(self.handle), os.stat(self.path)):
                return True
        except OSError:
            pass
        os.close(self.handle)
        return False

    def release(self) -> None:
        """Removes the file and lets go; for the process that took the lock."""
        self.path.unlink(missing_ok=True)
        os.close(self.handle)

    def __getstate__(self) -> dict[str, Any]:
        """Hands the open file to a worker: the lock lasts until both have closed it."""
        return {"path": self.path, "handle": DupFd(self.handle)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Takes the open file over."""
        self.path, self.handle = state["path"], state["handle"].detach()
