"""`--track`: log `training.csv` and `evaluations.csv` to TensorBoard or Weights & Biases.

The CSV files remain the reference. A tracker has its own thread, so that training never waits for
it. An error of a tracker is reported once, in one line, and ends the tracking only.
"""

import queue
import threading
from argparse import ArgumentTypeError
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

from mujoco_sail.recipes.settings import nearest
from mujoco_sail.system import packages
from mujoco_sail.system.errors import UserError, one_line

TRACKERS = ("tensorboard", "wandb")
TABLES = ("training.csv", "evaluations.csv")
PATIENCE = 30.0  # seconds that a run waits for its tracker at the end


@dataclass(frozen=True)
class TrackedRun:
    """Description of a run for trackers.

    Attributes:
        folder: Folder of the run.
        id: Identifier, the same when the run is resumed by another process.
        about: Content of `run.toml`.
    """

    folder: Path
    id: str
    about: Mapping[str, Any]


class Tracker(Protocol):
    """Protocol of a tracker that logs the scalars of one run."""

    def log(self, step: int, scalars: Mapping[str, float]) -> None:
        """Logs the scalars of a step."""

    def close(self) -> None:
        """Writes everything and closes the tracker."""


class TensorBoard:
    """TensorBoard event file in the run's folder; every process that trains the run starts one."""

    def __init__(self, run: TrackedRun) -> None:
        for old in run.folder.glob("events.out.tfevents.*"):
            old.unlink()
        self._writer = import_module("torch.utils.tensorboard").SummaryWriter(str(run.folder))

    def log(self, step: int, scalars: Mapping[str, float]) -> None:
        """Logs the scalars of a step."""
        for name, value in scalars.items():
            self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        """Writes everything and closes the tracker."""
        self._writer.close()


class WandB:
    """Weights & Biases run in the project `mujoco_sail`, grouped by environment and agent."""

    def __init__(self, run: TrackedRun) -> None:
        env, agent, seed = run.folder.parts[-3:]
        self._run = import_module("wandb").init(
            project="mujoco_sail",
            dir=str(run.folder.parents[2]),
            group=f"{env}/{agent}",
            name=f"{env}/{agent}/{seed}",
            id=run.id,
            config=dict(run.about),
            resume="allow",
            reinit="create_new",
        )

    def log(self, step: int, scalars: Mapping[str, float]) -> None:
        """Logs the scalars of a step, unless the server already has them."""
        if step >= self._run.step:
            self._run.log(dict(scalars), step=step)

    def close(self) -> None:
        """Writes everything and closes the tracker."""
        self._run.finish()


KINDS: Mapping[str, Callable[[TrackedRun], Tracker]] = {"tensorboard": TensorBoard, "wandb": WandB}


def parse(text: str) -> list[str]:
    """The names of trackers that are joined by commas.

    Raises:
        ArgumentTypeError: There is no such tracker.
    """
    names = text.split(",")
    for name in names:
        if name not in TRACKERS:
            raise ArgumentTypeError(f"no tracker '{name}'; {nearest(name, TRACKERS)}")
    return names


def check(kinds: Sequence[str]) -> None:
    """Checks that the libraries of the trackers are installed.

    Raises:
        UserError: A library is not installed.
    """
    for kind in kinds:
        if not packages.installed(kind):
            raise UserError(packages.needs(kind, f"--track {kind}: it", "not installed"))


class Tracking:
    """Trackers of one kind for all runs of a stack, in a thread.

    Args:
        kind: One of `TRACKERS`.
        say: Called with one line if a tracker fails.
    """

    def __init__(self, kind: str, say: Callable[[str], None]) -> None:
        self._kind, self._say, self._failed = kind, say, False
        self._open: dict[Path, Tracker] = {}
        self._jobs: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def begin(self, run: TrackedRun, rows: Mapping[str, Sequence[Sequence[Any]]]) -> None:
        """Opens a tracker for a run and logs all rows so far; each table starts with its header."""
        self._jobs.put(partial(self._begin, run))
        so_far = [(name, rows[name][0], row) for name in TABLES for row in rows[name][1:]]
        for name, columns, row in sorted(so_far, key=lambda each: int(each[2][0])):
            self.log(run.folder, name, columns, row)

    def log(self, folder: Path, table: str, columns: Sequence[str], row: Sequence[Any]) -> None:
        """Logs a row of a table, whose first cell is the step; empty cells are omitted."""
        scalars = {
            f"{Path(table).stem}/{column}": float(cell)
            for column, cell in zip(columns[1:], row[1:], strict=True)
            if cell != ""
        }
        self._jobs.put(lambda: self._open[folder].log(int(row[0]), scalars))

    def finish(self) -> None:
        """Closes all trackers and waits for them, at most `PATIENCE` seconds."""
        self._jobs.put(self._close)
        self._jobs.put(None)
        self._thread.join(PATIENCE)
        if self._thread.is_alive():
            self._say(
                f"--track {self._kind}: not finished {PATIENCE:.0f} s after the run; abandoned"
            )

    def _begin(self, run: TrackedRun) -> None:
        self._open[run.folder] = KINDS[self._kind](run)

    def _close(self) -> None:
        for tracker in self._open.values():
            tracker.close()

    def _work(self) -> None:
        for job in iter(self._jobs.get, None):
            if self._failed:
                continue
            try:
                job()
            except Exception as error:
                self._failed = True
                reason = one_line(f"{type(error).__name__}: {error}")
                self._say(f"--track {self._kind}: {reason}; training continues without it")


def start(kinds: Iterable[str], say: Callable[[str], None]) -> list[Tracking]:
    """Starts a `Tracking` of each kind."""
    return [Tracking(kind, say) for kind in kinds]
