"""Read the files of a run.

Nothing that is read is executed. A damaged file is a `UserError` of one or two lines.
"""

import warnings
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pandas.errors import ParserWarning

from mujoco_sail.recipes.load import teacher_name
from mujoco_sail.recipes.settings import check_name, read_toml
from mujoco_sail.results import plain_table
from mujoco_sail.system.errors import UserError, one_line
from mujoco_sail.system.files import holds_nothing

EVALUATIONS = (
    "step",
    "episode_return",
    "episode_return_std",
    "episodes",
    "success_rate",
    "labels",
)
TRAINING = ("step", "labels")  # and the agent's metrics
FEEDBACK = ("step", "session", "query", "return_1", "return_2", "label")
SKIPPED = "skip"  # label of a query that the teacher skipped
LARGEST = 1e30  # largest valid number: far above all returns, with a finite square


@dataclass(frozen=True)
class RunRecord:
    """Record of one run: an agent on an environment with one seed.

    Attributes:
        folder: Folder of the run.
        env: Name of the environment.
        agent: Name of the agent.
        seed: Seed.
        status: "complete", "running" or "failed". An interrupted run is "running" too, even if its
            `run.toml` was not yet written.
        failure: Reason of the failure in one line; empty if it did not fail.
        evaluations: Table with the columns `EVALUATIONS`; `success_rate` is nan if the task does
            not define success. Empty unless complete, because other runs may have partial files.
        labels: Labels used (queries answered); 0 unless complete.
        table: Content of `run.toml`; empty if it was not written.
    """

    folder: Path
    env: str
    agent: str
    seed: int
    status: str
    failure: str
    evaluations: pd.DataFrame
    labels: int
    table: Mapping[str, Any]


def read(folder: Path) -> RunRecord:
    """Reads one run.

    Args:
        folder: Folder of the run, `<env>/<agent>/seed_<n>/`.

    Raises:
        UserError: A file is missing, damaged or of another run.
    """
    path = folder / "run.toml"
    if holds_nothing(path):
        return _not_begun(folder)
    table = read_run(path)
    for key in ("env", "agent", "versions"):
        if not isinstance(table.get(key), dict):
            raise UserError(f"{path}: missing table '{key}'")
    status = table.get("status")
    if status not in ("complete", "running", "failed"):
        raise UserError(f"{path}: key 'status' is {status!r}; expected complete, running, failed")

    # Otherwise a copied folder would count one seed twice.
    seed, env, agent = table.get("seed"), table["env"].get("name"), table["agent"].get("name")
    place = (*_arm(folder), folder.name)
    if type(seed) is not int or (env, agent, f"seed_{seed}") != place:
        raise UserError(
            f"{path}: belongs to {env}/{agent}/seed_{seed}, but is in {'/'.join(place)}"
        )
    record = _unread(folder, seed, status, table)
    if status == "complete":
        evaluations = _evaluations(folder / "evaluations.csv")
        return replace(record, evaluations=evaluations, labels=_labels(folder / "feedback.csv"))
    if status == "failed":
        return replace(record, failure=one_line(table.get("failure", "")))
    return record


def read_run(path: Path) -> dict[str, Any]:
    """Reads `run.toml`.

    Raises:
        UserError: It cannot be read, or is not TOML.
    """
    table = read_toml(path)
    name_teacher(table)
    return table


def name_teacher(run: Mapping[str, Any]) -> None:
    """Gives the teachers of a run, which may be recorded in any order, their one name."""
    env = run.get("env")
    if isinstance(env, dict) and isinstance(env.get("teacher"), str):
        env["teacher"] = teacher_name(env["teacher"])


def _not_begun(folder: Path) -> RunRecord:
    """Record of a run that was interrupted before its `run.toml` was written."""
    number = folder.name.removeprefix("seed_")
    if not number.isdecimal() or f"{int(number)}" != number:
        raise UserError(f"{folder}: no run.toml there, and no seed_<n>; expected a run's folder")
    return _unread(folder, int(number), "running", {})


def _unread(folder: Path, seed: int, status: str, table: Mapping[str, Any]) -> RunRecord:
    """Record without the content of CSV files."""
    env, agent = _arm(folder)
    for name in (env, agent):
        check_name(name, folder)
    return RunRecord(folder, env, agent, seed, status, "", _empty(EVALUATIONS), 0, table)


def _arm(folder: Path) -> tuple[str, str]:
    return folder.parent.parent.name, folder.parent.name


def agents_in_order(records: Sequence[RunRecord], baseline: str) -> list[str]:
    """Names of agents in display order: those without labels, the baseline, the others."""
    silent, agents = agents_without_labels(records), {r.agent for r in records}
    return sorted(agents, key=lambda agent: (agent not in silent, agent != baseline, agent))


def agents_without_labels(records: Sequence[RunRecord]) -> set[str]:
    """Names of agents with complete runs that used no labels in any of them."""
    complete = {r.agent for r in records if r.status == "complete"}
    return complete - {r.agent for r in records if r.labels}


def failures(records: Sequence[RunRecord]) -> Counter[tuple[str, str]]:
    """Numbers of failed runs by environment and agent."""
    return Counter((r.env, r.agent) for r in records if r.status == "failed")


def count_failed(
    records: Sequence[RunRecord], agents: Collection[str], env: str | None = None
) -> int:
    """Number of failed runs of agents, on one environment or, by default, on all."""
    return sum(
        run.status == "failed" and run.agent in agents and env in (None, run.env) for run in records
    )


def damaged(path: Path, error: Exception) -> UserError:
    """Error for a path that cannot be read, with the reason."""
    reason = error.strerror if isinstance(error, OSError) else str(error)
    return UserError(f"{path}: cannot be read: {reason}")


def read_cells(path: Path, kind: type[str] | None = str) -> pd.DataFrame:
    """Reads a CSV file.

    Args:
        path: The file.
        kind: Of its cells; None for what each column looks like.

    Raises:
        UserError: It is not there, or no table of cells between commas.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", ParserWarning)  # rows longer than the header
            frame = pd.read_csv(path, index_col=False, dtype=kind)
        header = ",".join(map(str, frame))
    except OSError as error:
        raise damaged(path, error) from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: cannot be read: not saved as UTF-8") from error
    except (ValueError, ParserWarning) as error:
        with path.open(encoding="utf-8", errors="replace") as file:
            header = file.readline()
        if not _from_a_spreadsheet(header):
            fault = "a row is longer than the header, or a quotation is not closed"
            raise UserError(f"{path}: cannot be read: {fault if header else 'empty'}") from error
    if _from_a_spreadsheet(header):
        raise UserError(
            f"{path}: cannot be read: cells between semicolons or tabs; expected commas, and "
            "points in numbers"
        )
    return frame


def _from_a_spreadsheet(header: str) -> bool:
    """Whether cells are separated as a spreadsheet does it where numbers have decimal commas."""
    return "," not in header and any(mark in header for mark in ";\t")


@cache
def _empty(columns: Sequence[str]) -> pd.DataFrame:
    return pd.DataFrame({name: pd.Series(dtype="float64") for name in columns})


def _csv(path: Path, columns: Sequence[str]) -> pd.DataFrame:
    """Reads a CSV file as text; the given columns are required."""
    frame = read_cells(path)
    if missing := [name for name in columns if name not in frame]:
        raise UserError(f"{path}: missing column '{missing[0]}'")
    return frame


def _evaluations(path: Path) -> pd.DataFrame:
    plain = plain_table.numbers(path, EVALUATIONS, ("success_rate",), LARGEST)
    if plain is not None and not 0 < plain["success_rate"].isna().sum() < len(plain):
        return plain
    text = _csv(path, EVALUATIONS)[list(EVALUATIONS)]
    without = ["success_rate"] if text["success_rate"].isna().all() else []
    return _numbers(path, text, without)


def read_training(path: Path) -> pd.DataFrame:
    """Reads `training.csv`; empty cells are nan.

    A run with fewer steps than `log_every` has no rows.

    Raises:
        UserError: The file is damaged.
    """
    plain = plain_table.numbers(path, TRAINING, None, LARGEST)
    if plain is not None:
        return plain
    text = read_cells(path)
    if text.empty and list(text) == ["step"]:
        return pd.DataFrame(columns=[*TRAINING], dtype="float64")
    text = _csv(path, TRAINING)
    return _numbers(path, text, [str(name) for name in text if name not in TRAINING])


def _numbers(path: Path, text: pd.DataFrame, may_lack: Sequence[str]) -> pd.DataFrame:
    """Parses a table of steps; only the columns in `may_lack` may have empty cells."""
    frame = _finite(path, text, may_lack)
    if frame.empty or (np.diff(frame["step"]) <= 0).any():
        raise UserError(f"{path}: column 'step' must increase and have at least one row")
    return frame


def _finite(path: Path, text: pd.DataFrame, may_lack: Sequence[str]) -> pd.DataFrame:
    """Parses the numbers of a table; only the columns in `may_lack` may have empty cells."""
    numbers = {str(name): pd.to_numeric(text[name], errors="coerce") for name in text}
    frame = pd.DataFrame(numbers, dtype="float64")
    for name in frame:
        good = frame[name].abs() <= LARGEST
        if not (good | text[name].isna() if name in may_lack else good).all():
            raise UserError(
                f"{path}: column '{name}' has a value that is not a finite number, "
                f"or beyond {LARGEST:.0e}"
            )
    return frame


def read_feedback(path: Path) -> pd.DataFrame:
    """Reads `feedback.csv`: the columns `FEEDBACK`, where nan is the label of a refused query.

    Raises:
        UserError: It is damaged.
    """
    text = _csv(path, FEEDBACK)[list(FEEDBACK)]
    _answers(path, text["label"])
    text["label"] = text["label"].replace(SKIPPED, np.nan)
    return _finite(path, text, ["label"])


def _labels(path: Path) -> int:
    plain = plain_table.cells(path, FEEDBACK)
    if plain is not None:
        answered = [label for label in plain["label"] if label != SKIPPED]
        if {*answered} <= {"0", "0.5", "1"}:
            return len(answered)
    return len(_answers(path, _csv(path, FEEDBACK)["label"]))


def _answers(path: Path, labels: "pd.Series[str]") -> "pd.Series[str]":
    """The labels that are not refusals."""
    answers = labels[labels != SKIPPED]
    if not pd.to_numeric(answers, errors="coerce").isin([0, 0.5, 1]).all():
        raise UserError(f"{path}: column 'label' has a value other than 0, 0.5, 1, {SKIPPED}")
    return answers
