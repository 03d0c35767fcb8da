"""Write the files of a run, `<results>/<env>/<agent>/seed_<n>/`, atomically."""

import csv
import io
import os
import shutil
import subprocess
import uuid
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Self

import tomli_w
import torch
from torch import Tensor

from mujoco_sail.agents.base import AgentSpec, Member
from mujoco_sail.agents.registry import resolved
from mujoco_sail.preferences import questions
from mujoco_sail.preferences.pairs import Pairs
from mujoco_sail.preferences.sessions import Query
from mujoco_sail.recipes.task import Task
from mujoco_sail.results.checkpoint import Checkpoints, first_difference
from mujoco_sail.results.read import EVALUATIONS, FEEDBACK, SKIPPED, read_run
from mujoco_sail.results.tracking import TrackedRun, Tracking
from mujoco_sail.results.versions import MACHINE, versions
from mujoco_sail.system.errors import UserError
from mujoco_sail.system.files import holds_nothing, remove_leftovers, write_bytes, write_text

CHECKPOINTS = "checkpoints"  # folder in a run folder

# Columns of the CSV files; training.csv also has the agent's metrics.
CSV_FILES: dict[str, Sequence[Any]] = {
    "evaluations.csv": EVALUATIONS,
    "training.csv": ("step",),
    "timing.csv": ("step", "steps_per_second"),
    "feedback.csv": FEEDBACK,
}


def run_folder(results: Path, task: Task, agent: str, seed: int) -> Path:
    """Folder of a run's files."""
    return results / task.name / agent / f"seed_{seed}"


def lock_of(folder: Path) -> Path:
    """File that the command which makes a run holds locked, beside its folder."""
    return folder.with_name(f".{folder.name}.lock")


def status_of(folder: Path, task: Task, spec: AgentSpec) -> str | None:
    """Status of the run in a folder, None if there is no run yet.

    A complete run may be of another engine, because all runs that differ in `MACHINE` are pooled.

    Raises:
        UserError: The run is damaged, or has another recipe or other versions.
    """
    if holds_nothing(folder / "run.toml"):
        return None
    found = read_run(folder / "run.toml")
    wanted = {**resolved(task, spec), "versions": versions(task.backend, task.packages)}
    status = str(found.get("status"))
    without = MACHINE if status == "complete" else ()
    difference = first_difference({table: found.get(table) for table in wanted}, wanted, without)
    if difference is not None:
        raise UserError(
            f"{folder} holds another run: {difference};",
            "choose another --results folder, or remove that one",
        )
    return status


def remove_checkpoints(folder: Path) -> None:
    """Removes the checkpoints of a run folder."""
    shutil.rmtree(folder / CHECKPOINTS, ignore_errors=True)


class RunWriter:
    """Writer of the files of one run; every write replaces a whole file atomically.

    Args:
        folder: Folder of the run.
        task: Resolved recipe of the environment.
        spec: Resolved recipe of the agent.
        seed: Seed of the member.
        device: Device of the updates.
        tracking: Trackers that log every row.

    Attributes:
        checkpoints: Checkpoints of the run.
    """

    @classmethod
    def of(
        cls,
        results: Path,
        task: Task,
        member: Member,
        device: torch.device,
        tracking: Sequence[Tracking] = (),
    ) -> Self:
        """Writer of a member's run in a folder of results."""
        folder = run_folder(results, task, member.spec.name, member.seed)
        return cls(folder, task, member.spec, member.seed, str(device), tracking)

    def __init__(
        self,
        folder: Path,
        task: Task,
        spec: AgentSpec,
        seed: int,
        device: str,
        tracking: Sequence[Tracking] = (),
    ) -> None:
        self.folder, self.tracking = folder, tracking
        self.tracked_as = uuid.uuid4().hex if tracking else ""
        identity: dict[str, Any] = {
            "seed": seed,
            "device": device,
            "versions": versions(task.backend, task.packages),
            **resolved(task, spec),
        }
        self.about = {
            "protocol": task.protocol,
            "precision": task.precision,
            "mkl_cbwr": os.environ.get("MKL_CBWR", ""),  # see `mujoco_sail/__init__.py`
            "commit": commit(),
            **identity,
        }
        self.checkpoints = Checkpoints(folder / CHECKPOINTS, identity)
        self.rows = {name: [list(columns)] for name, columns in CSV_FILES.items()}
        self.wall_seconds = 0.0

    def begin(self, saved: Mapping[str, Any] | None = None) -> None:
        """Writes all files in their initial state, or in the state that `state` returned.

        `run.toml` is written first, so that the other files are never read as those of a complete
        run.
        """
        remove_leftovers(self.folder)
        remove_leftovers(self.folder / questions.FOLDER)
        self.checkpoints.remove_leftovers()
        if saved is not None:
            self.rows = {name: [list(row) for row in saved["rows"][name]] for name in CSV_FILES}
            self.wall_seconds = saved["wall_seconds"]
            self.tracked_as = saved["tracked_as"] or self.tracked_as
        self.write_status("running", 0.0)
        for name in CSV_FILES:
            self._write(name)
        for tracking in self.tracking:
            tracking.begin(TrackedRun(self.folder, self.tracked_as, self.about), self.rows)

    def state(self, seconds: float) -> dict[str, Any]:
        """State for a checkpoint: content of the files so far, `seconds` after `begin`."""
        rows = {name: [list(row) for row in rows] for name, rows in self.rows.items()}
        return {
            "rows": rows,
            "wall_seconds": self.wall_seconds + seconds,
            "tracked_as": self.tracked_as,
        }

    def write_status(self, status: str, seconds: float, failure: str | None = None) -> None:
        """Writes `run.toml`.

        Args:
            status: "running", "complete" or "failed".
            seconds: Seconds since `begin`.
            failure: Reason of the failure.
        """
        wall_seconds = round(self.wall_seconds + seconds, 1)
        table = {"status": status, "wall_seconds": wall_seconds, **self.about}
        if failure is not None:
            table = {"failure": failure, **table}
        write_text(self.folder / "run.toml", tomli_w.dumps(table))

    def add_evaluation(self, *row: Any, **more: float) -> None:
        """Adds a row to `evaluations.csv`: `EVALUATIONS` in their order, and the agent's own."""
        rows = self.rows["evaluations.csv"]
        rows[0] = [*EVALUATIONS, *more]
        rows.append([_cell(value) for value in (*row, *more.values())])
        self._write("evaluations.csv")
        self._track("evaluations.csv")

    def add_training_row(self, row: Mapping[str, float], steps_per_second: float) -> None:
        """Adds a row to `training.csv`, whose columns are its keys, and one to `timing.csv`."""
        rows = self.rows["training.csv"]
        rows[0] = list(row)
        rows.append([_cell(value) for value in row.values()])
        self.rows["timing.csv"].append([row["step"], round(steps_per_second, 1)])
        self._write("training.csv")
        self._write("timing.csv")
        self._track("training.csv")

    def add_queries(self, queries: Sequence[Query]) -> None:
        """Adds queries to `feedback.csv`."""
        rows = self.rows["feedback.csv"]
        for q in queries:
            number = len(rows) - 1  # without the header
            row = (q.step, q.session, number, q.return_1, q.return_2, _label(q.label))
            rows.append([_cell(value) for value in row])
        self._write("feedback.csv")

    def write_preferences(self, pairs: Pairs, labels: Tensor, sizes: tuple[int, int]) -> None:
        """Writes `preferences.h5`.

        Args:
            pairs: Pairs of this run in the order in which they were labelled, [1, P, ...].
            labels: Labels, [1, P].
            sizes: O and A.
        """
        from mujoco_sail.results.preference_file import NAME, encode  # noqa: PLC0415 (rarely used)

        env, agent = self.about["env"], self.about["agent"]
        about = {
            "env": env["id"],
            "teacher": env["teacher"],
            "agent": agent["name"],
            "seed": self.about["seed"],
            "mujoco_sail": self.about["versions"]["mujoco_sail"],
        }
        rows = self.rows["feedback.csv"][1:]
        asked = [(int(row[0]), int(row[1])) for row in rows if row[-1] != SKIPPED]
        write_bytes(self.folder / NAME, encode(pairs, labels, asked, sizes, about))

    def _track(self, name: str) -> None:
        columns, *_, row = self.rows[name]
        for tracking in self.tracking:
            tracking.log(self.folder, name, columns, row)

    def _write(self, name: str) -> None:
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerows(self.rows[name])
        write_text(self.folder / name, text.getvalue())


def _cell(value: Any) -> Any:
    """Formats a cell: numbers with 9 significant digits, enough for float32; nan is empty."""
    if isinstance(value, float):
        return "" if value != value else f"{value:.9g}"  # noqa: PLR0124
    return value


def _label(label: float | None) -> str:
    return SKIPPED if label is None else f"{label:g}"


@cache
def commit() -> str:
    """Commit of the checkout, with "-dirty" if files were changed; "unknown" in a wheel."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return "unknown"
    try:
        described = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"],
            cwd=root,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return described.stdout.strip()
