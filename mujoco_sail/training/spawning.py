"""Worker processes that do not run the main script.

A process spawned by `multiprocessing` first runs the main script again, under another name, so a
script without `if __name__ == "__main__":` would start training in each of its workers. The workers
here do not need the script. It is therefore hidden from `multiprocessing` while a worker starts:
the two attributes of `__main__` from which `multiprocessing` finds the script are set to None.
"""

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from multiprocessing.context import SpawnContext, SpawnProcess
from typing import Any

# Idle threads must not spin on cores that other workers need.
DEFAULTS = {"OMP_WAIT_POLICY": "passive"}
# Workers do not render, and MuJoCo's search for a display may fail.
FORCED = {"MUJOCO_GL": "disable"}


class WorkerProcess(SpawnProcess):
    """Process that does not run the main script."""

    def start(self) -> None:
        """Starts the process with the main script hidden."""
        defaults = {name: os.environ.get(name, value) for name, value in DEFAULTS.items()}
        with script_hidden(), environment(defaults | FORCED):
            super().start()


class WorkerContext(SpawnContext):
    """Context of the start method "spawn" with `WorkerProcess`."""

    Process = WorkerProcess


CONTEXT = WorkerContext()


@contextmanager
def script_hidden() -> Iterator[None]:
    """Hides the script or module with which this process was started, if there is one."""
    main = vars(sys.modules["__main__"])
    before: dict[str, Any] = {name: main[name] for name in ("__file__", "__spec__") if name in main}
    main |= dict.fromkeys(before)
    try:
        yield
    finally:
        main |= before


@contextmanager
def environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Sets environment variables for processes started inside the context."""
    before = {name: os.environ.pop(name) for name in variables if name in os.environ}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name in variables:
            del os.environ[name]
        os.environ.update(before)
