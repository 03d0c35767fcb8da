"""Tidy tables of the result files of many runs."""

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

RUN = ["env", "agent", "seed"]  # first columns of every table
COUNTS = ["step", "episodes", "labels", "session", "query"]  # columns of integers


@dataclass(frozen=True, eq=False)
class Results:
    """Tables of the runs of a results folder, with first columns `env`, `agent` and `seed`.

    Only complete runs have rows in `evaluations`, `training` and `feedback`.

    Attributes:
        runs: One row per run: `status` ("complete", "running" or "failed"; interrupted runs are
            "running"), `failure` (reason), `protocol`, `teacher`, `steps` (environment steps of the
            complete run), `labels` (used; `pandas.NA` unless complete), `device`, `wall_seconds`,
            `folder`.
        evaluations: One row per evaluation: `step`, `episode_return` (mean over the episodes),
            `episode_return_std`, `episodes`, `success_rate` (nan if the task has none), `labels`
            (used so far).
        training: One row per logged step: `step`, `labels` and the quantities logged by the agents,
            nan if an agent does not log them. docs/results.md explains the columns.
        feedback: One row per query: `step`, `session`, `query`, `return_1` and `return_2` (task
            returns of both segments), `label` (1: the first segment is preferred, 0: the second,
            0.5: a tie, nan: a query that the teacher refused).
    """

    runs: pd.DataFrame
    evaluations: pd.DataFrame
    training: pd.DataFrame
    feedback: pd.DataFrame

    def __repr__(self) -> str:
        """Numbers of runs and rows."""
        states = self.runs["status"].value_counts()
        runs = ", ".join(f"{count} {status}" for status, count in states.items()) or "none"
        names = ("evaluations", "training", "feedback")
        rows = ", ".join(f"{name} {len(getattr(self, name))}" for name in names)
        return f"Results(runs: {runs}; rows: {rows})"


def tidy(records: Sequence[RunRecord]) -> Results:
    """Reads the remaining files of runs and joins the rows of all runs.

    Args:
        records: Runs of any status.

    Raises:
        UserError: A file is damaged; the message names the file.
    """
    complete = [record for record in records if record.status == "complete"]
    logged = [record for record in complete if (record.folder / "training.csv").exists()]
    return Results(
        runs=pd.DataFrame([_about(record) for record in records]).astype({"labels": "Int64"}),
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
        "labels": record.labels if record.status == "complete" else pd.NA,
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
    """Rows of all runs; an empty table with these columns if there are none."""
    parts = [rows.assign(**_names(run)) for run in records if len(rows := table(run))]
    if not parts:
        return pd.DataFrame(columns=[*RUN, *columns])
    frame = pd.concat(parts, ignore_index=True)
    counts = {name: _whole(frame[name]) for name in COUNTS if name in frame}
    return frame.assign(**counts)[[*RUN, *(name for name in frame if name not in RUN)]]


def _whole(column: "pd.Series[float]") -> "pd.Series[Any]":
    """Converts a column to int64 if it contains only whole numbers."""
    small = pd.to_numeric(column, downcast="integer")
    return small.astype("int64") if pd.api.types.is_integer_dtype(small) else column
