"""The files of one run, `<results>/<env>/<agent>/seed_<n>/`, always whole on disk."""

import csv
import io
import os
import subprocess
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import tomli_w

from mujoco_sail.collection import EVALUATIONS, FEEDBACK, SKIPPED
from mujoco_sail.feedback import Query
from mujoco_sail.files import write_text
from mujoco_sail.recipes import Entry, resolved
from mujoco_sail.settings import RecipeError, read_toml
from mujoco_sail.task import Task
from mujoco_sail.worlds import versions


def run_folder(results: Path, task: Task, agent: str, seed: int) -> Path:
    """Where a run's files lie."""
    return results / task.name / agent / f"seed_{seed}"


def is_complete(folder: Path, task: Task, entry: Entry) -> bool:
    """Whether a folder already holds this very run, finished.

    Raises:
        RecipeError: It holds a run of another recipe, of other versions, or a damaged one.
    """
    if not os.path.lexists(folder / "run.toml"):
        return False
    found = dict(_flat(read_toml(folder / "run.toml")))
    for key, value in _flat({**resolved(task, entry), "versions": versions()}):
        there = found.get(key)
        if there != value:
            raise RecipeError(
                f"{folder} holds another run: {key} is {there!r} there and {value!r} here;",
                "choose another --results folder, or remove that one",
            )
    return found.get("status") == "complete"


class RunFiles:
    """Writes the files of one run; every write replaces a whole file atomically.

    Args:
        folder: The run's own folder.
        task: Resolved recipe of the environment.
        entry: Resolved recipe of the agent.
        seed: The member's seed.
        device: Where the updates run.
    """

    def __init__(self, folder: Path, task: Task, entry: Entry, seed: int, device: str) -> None:
        self.folder = folder
        self.about: dict[str, Any] = {
            "seed": seed,
            "protocol": task.protocol,
            "device": device,
            "precision": "float32",
            "commit": _commit(),
            "versions": versions(),
            **resolved(task, entry),
        }
        self.evaluations: list[Sequence[Any]] = []
        self.training: list[dict[str, float]] = []
        self.folder.mkdir(parents=True, exist_ok=True)
        self.status("running", 0.0)
        self._write("evaluations.csv", EVALUATIONS, [])
        self._write("training.csv", ("step",), [])
        self.feedback([])

    def status(self, status: str, wall_seconds: float, failure: str | None = None) -> None:
        """Writes `run.toml`.

        Args:
            status: "running", "complete" or "failed".
            wall_seconds: Since the start of the stack.
            failure: Why it failed.
        """
        table = {"status": status, "wall_seconds": round(wall_seconds, 1), **self.about}
        if failure is not None:
            table = {"failure": failure, **table}
        write_text(self.folder / "run.toml", tomli_w.dumps(table))

    def evaluation(self, *row: Any) -> None:
        """Adds a row, in the order of `EVALUATIONS`."""
        self.evaluations.append(row)
        self._write("evaluations.csv", EVALUATIONS, self.evaluations)

    def training_row(self, row: dict[str, float]) -> None:
        """Adds a row; the first one's keys are the columns."""
        self.training.append(row)
        columns = tuple(self.training[0])
        self._write("training.csv", columns, (r.values() for r in self.training))

    def feedback(self, queries: Sequence[Query]) -> None:
        """Writes every question asked so far."""
        rows = (
            (q.step, q.session, number, q.return_1, q.return_2, _label(q.label))
            for number, q in enumerate(queries)
        )
        self._write("feedback.csv", FEEDBACK, rows)

    def _write(self, name: str, columns: Sequence[str], rows: Iterable[Iterable[Any]]) -> None:
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows([_cell(value) for value in row] for row in rows)
        write_text(self.folder / name, text.getvalue())


def _cell(value: Any) -> Any:
    """A number short enough to read, precise enough for float32; nan is an empty cell."""
    if isinstance(value, float):
        return "" if value != value else f"{value:.9g}"  # noqa: PLR0124
    return value


def _label(label: float | None) -> str:
    return SKIPPED if label is None else f"{label:g}"


def _flat(table: dict[str, Any], prefix: str = "") -> Iterable[tuple[str, Any]]:
    for key, value in table.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


@cache
def _commit() -> str:
    """Commit of the checkout, "-dirty" where files differ from it; "unknown" in a wheel."""
    here = Path(__file__).resolve().parent
    if not (here.parent / ".git").exists():
        return "unknown"
    try:
        described = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"],
            cwd=here,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return described.stdout.strip()
