"""`--track`: `training.csv` and `evaluations.csv` for TensorBoard or Weights & Biases.

The CSV files stay the truth. A tracker has a thread of its own, so that training never waits for
it; what goes wrong in it is said in one line, once, and ends the tracking alone.
"""

import queue
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

from mujoco_sail.system.errors import UserError, one_line

TRACKERS = ("tensorboard", "wandb")
TABLES = ("training.csv", "evaluations.csv")
PATIENCE = 30.0  # seconds that a run, once it has ended, waits for its tracker


@dataclass(frozen=True)
class TrackedRun:
    """A run as trackers know it.

    Attributes:
        folder: Its own.
        id: One for all processes that train it, one after the other.
        about: The content of `run.toml`.
    """

    folder: Path
    id: str
    about: Mapping[str, Any]


class Tracker(Protocol):
    """What takes the scalars of one run."""

    def log(self, step: int, scalars: Mapping[str, float]) -> None:
        """Takes the scalars of a step."""

    def close(self) -> None:
        """Ends; everything is written."""


class TensorBoard:
    """An event file in the run's folder, begun anew by every process that trains the run."""

    def __init__(self, run: TrackedRun) -> None:
        for old in run.folder.glob("events.out.tfevents.*"):
            old.unlink()
        self._writer = import_module("torch.utils.tensorboard").SummaryWriter(str(run.folder))

    def log(self, step: int, scalars: Mapping[str, float]) -> None:
        """See `Tracker.log`."""
        for name, value in scalars.items():
            self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        """See `Tracker.close`."""
        self._writer.close()


class WandB:
    """A run of the project `mujoco_sail`, grouped by environment and agent."""

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
        """See `Tracker.log`; what the server has already is not sent again."""
        if step >= self._run.step:
            self._run.log(dict(scalars), step=step)

    def close(self) -> None:
        """See `Tracker.close`."""
        self._run.finish()


KINDS: Mapping[str, Callable[[TrackedRun], Tracker]] = {"tensorboard": TensorBoard, "wandb": WandB}


def check(kinds: Sequence[str]) -> None:
    """Looks for the libraries.

    Raises:
        UserError: One is not installed.
    """
    for kind in kinds:
        if find_spec(kind) is None:
            raise UserError(
                f"--track {kind}: it needs the package {kind}; pip install 'mujoco-sail[{kind}]'"
            )


class Tracking:
    """One kind of tracker for the runs of a stack.

    Args:
        kind: One of `TRACKERS`.
        say: Called with one line if it fails.
    """

    def __init__(self, kind: str, say: Callable[[str], None]) -> None:
        self._kind, self._say, self._failed = kind, say, False
        self._open: dict[Path, Tracker] = {}
        self._jobs: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def begin(self, run: TrackedRun, rows: Mapping[str, Sequence[Sequence[Any]]]) -> None:
        """Opens a tracker for a run and gives it all rows so far, headers first."""
        self._jobs.put(partial(self._begin, run))
        so_far = [(name, rows[name][0], row) for name in TABLES for row in rows[name][1:]]
        for name, columns, row in sorted(so_far, key=lambda each: int(each[2][0])):
            self.log(run.folder, name, columns, row)

    def log(self, folder: Path, table: str, columns: Sequence[str], row: Sequence[Any]) -> None:
        """Gives a row of a table, the step first, to a run's tracker; empty cells are left out."""
        scalars = {
            f"{Path(table).stem}/{column}": float(cell)
            for column, cell in zip(columns[1:], row[1:], strict=True)
            if cell != ""
        }
        self._jobs.put(lambda: self._open[folder].log(int(row[0]), scalars))

    def finish(self) -> None:
        """Closes all trackers and waits for that, though not for ever."""
        self._jobs.put(self._close)
        self._jobs.put(None)
        self._thread.join(PATIENCE)
        if self._thread.is_alive():
            self._say(f"--track {self._kind}: not done {PATIENCE:.0f} s after the run; left alone")

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
                self._say(f"--track {self._kind}: {reason}; the runs go on without it")


def start(kinds: Iterable[str], say: Callable[[str], None]) -> list[Tracking]:
    """A `Tracking` of each kind."""
    return [Tracking(kind, say) for kind in kinds]
