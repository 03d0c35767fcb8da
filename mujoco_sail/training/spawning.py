"""Worker processes that do not run the script that started them.

A process that `multiprocessing` spawns first runs the parent's script again, under another name:
a script without `if __name__ == "__main__":` would train in each of its workers. Workers here
import what they are sent and need nothing of the script. So it is hidden from `multiprocessing`
while a worker starts, by the two attributes that name it; they are all that it looks at. Everything
else of a spawned process stays: its queues, its locks, and its end with the main process.
"""

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from multiprocessing.context import SpawnContext, SpawnProcess
from typing import Any

# Threads that wait for work must not spin on cores that another worker needs.
DEFAULTS = {"OMP_WAIT_POLICY": "passive"}
# No worker draws, and MuJoCo's search for a display may fail.
FORCED = {"MUJOCO_GL": "disable"}


class WorkerProcess(SpawnProcess):
    """A process that begins with nothing of the parent's script."""

    def start(self) -> None:
        """See `multiprocessing.Process.start`."""
        defaults = {name: os.environ.get(name, value) for name, value in DEFAULTS.items()}
        with script_hidden(), environment(defaults | FORCED):
            super().start()


class WorkerContext(SpawnContext):
    """The start method "spawn" with `WorkerProcess`, also for a pool of processes."""

    Process = WorkerProcess


CONTEXT = WorkerContext()


@contextmanager
def script_hidden() -> Iterator[None]:
    """Hides which script or module this process was started with.

    A notebook and an interactive session have none.
    """
    main = vars(sys.modules["__main__"])
    before: dict[str, Any] = {name: main[name] for name in ("__file__", "__spec__") if name in main}
    main |= dict.fromkeys(before)
    try:
        yield
    finally:
        main |= before


@contextmanager
def environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Sets environment variables, which processes that are started inside inherit."""
    before = {name: os.environ.pop(name) for name in variables if name in os.environ}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name in variables:
            del os.environ[name]
        os.environ.update(before)
