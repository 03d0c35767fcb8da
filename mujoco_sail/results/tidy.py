"""The files of many runs as a few tables, a row for each observation."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from mujoco_sail.results.read import (
    EVALUATIONS,
    FEEDBACK,
    TRAINING,
    RunRecord,
    read_feedback,
    read_training,
)
from mujoco_sail.system.errors import one_line

RUN = ["env", "agent", "seed"]  # the first columns of every table
COUNTS = ["step", "episodes", "labels", "session", "query"]  # whole numbers


@dataclass(frozen=True, eq=False)
class Results:
    """Runs of a results folder as tables whose first columns are `env`, `agent` and `seed`.

    Only complete runs have rows in `evaluations`, `training` and `feedback`.

    Attributes:
        runs: A row for each run: `status` ("complete", "running" or "failed"; a run that was cut
            off is "running"), `failure` (why it failed), `protocol`, `teacher`, `steps`
            (environment steps of the whole run), `labels` (used), `device`, `wall_seconds`,
            `folder`.
        evaluations: A row for each evaluation: `step`, `episode_return` (mean over the episodes),
            `episode_return_std`, `episodes`, `success_rate` (nan where the task has none),
            `labels` (used so far).
        training: A row for each logged step: `step`, `labels`, and what the agents recorded, nan
            where an agent does not record it. docs/results.md explains the columns.
        feedback: A row for each query: `step`, `session`, `query`, `return_1` and `return_2` (task
            returns of both segments), `label` (1 the first is preferred, 0 the second, 0.5 a tie,
            nan a query that the teacher refused).
    """

    runs: pd.DataFrame
    evaluations: pd.DataFrame
    training: pd.DataFrame
    feedback: pd.DataFrame

    def __repr__(self) -> str:
        """How many runs and rows there are."""
        states = self.runs["status"].value_counts()
        runs = ", ".join(f"{count} {status}" for status, count in states.items()) or "none"
        names = ("evaluations", "training", "feedback")
        rows = ", ".join(f"{name} {len(getattr(self, name))}" for name in names)
        return f"Results(runs: {runs}; rows: {rows})"


def tidy(records: Sequence[RunRecord]) -> Results:
    """Reads the other files of some runs, and puts all of their rows together.

    Args:
        records: See `results.pooling.read_all`.

    Raises:
        UserError: A file is damaged; it is named.
    """
    complete = [record for record in records if record.status == "complete"]
    logged = [record for record in complete if (record.folder / "training.csv").exists()]
    return Results(
        runs=pd.DataFrame([_about(record) for record in records]),
        evaluations=_together(complete, lambda run: run.evaluations, EVALUATIONS),
        training=_together(
            logged, lambda run: read_training(run.folder / "training.csv"), TRAINING
        ),
        feedback=_together(
            complete, lambda run: read_feedback(run.folder / "feedback.csv"), FEEDBACK
        ),
    )


def _about(record: RunRecord) -> dict[str, Any]:
    env = record.table.get("env", {})
    return {
        **_names(record),
        "status": record.status,
        "failure": record.failure,
        "protocol": one_line(env.get("protocol", "")),
        "teacher": one_line(env.get("teacher", "")),
        "steps": env.get("steps"),
        "labels": record.labels,
        "device": one_line(record.table.get("device", "")),
        "wall_seconds": record.table.get("wall_seconds"),
        "folder": str(record.folder),
    }


def _names(record: RunRecord) -> dict[str, Any]:
    return {"env": record.env, "agent": record.agent, "seed": record.seed}


def _together(
    records: Sequence[RunRecord],
    table: Callable[[RunRecord], pd.DataFrame],
    columns: Sequence[str],
) -> pd.DataFrame:
    """The rows of all runs; with these columns if there are none."""
    parts = [rows.assign(**_names(run)) for run in records if len(rows := table(run))]
    if not parts:
        return pd.DataFrame(columns=[*RUN, *columns])
    frame = pd.concat(parts, ignore_index=True)
    counts = {name: _whole(frame[name]) for name in COUNTS if name in frame}
    return frame.assign(**counts)[[*RUN, *(name for name in frame if name not in RUN)]]


def _whole(column: "pd.Series[float]") -> "pd.Series[Any]":
    """A column of whole numbers as such; any other as it is."""
    small = pd.to_numeric(column, downcast="integer")
    return small.astype("int64") if pd.api.types.is_integer_dtype(small) else column
