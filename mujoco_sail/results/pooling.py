"""Load the runs of a results folder and check that they can be pooled."""

import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import pandas as pd

from mujoco_sail.results.read import RunRecord, damaged, read, read_training
from mujoco_sail.results.versions import MACHINE, differ
from mujoco_sail.system.errors import UserError

# Packages whose versions must be equal in runs that are pooled: simulators and mujoco_sail.
PACKAGES = ("mujoco", "gymnasium", "dm_control", "metaworld", "envpool", "mujoco_sail")
VERSIONS = {f"versions.{name}" for name in PACKAGES}
# Keys that must be equal over pooled environments, besides settings of teacher and agents.
EVERYWHERE = ("env.protocol", "env.teacher", "versions.mujoco_sail")

NAMED = 4  # sub-folders that a message names

# Values that must be equal for all runs of a group: the group, a run, and the run's values.
GroupValues = tuple[tuple[str, ...], RunRecord, Mapping[str, Any]]


class NoRunsError(UserError):
    """A folder has no run."""


def collect(results: Path) -> list[RunRecord]:
    """Reads all runs of a results folder and checks that they can be compared.

    Args:
        results: See `read_all`.

    Returns:
        Runs in the order of `read_all`.

    Raises:
        NoRunsError: No runs.
        UserError: A damaged file, or runs that must not be pooled.
    """
    records = read_all(results)
    check_poolable(records)
    return records


def read_all(results: Path) -> list[RunRecord]:
    """Reads all runs of a results folder, whether or not they can be compared.

    Args:
        results: Folder with `<env>/<agent>/seed_<n>/`.

    Returns:
        Runs sorted by environment, agent and seed.

    Raises:
        NoRunsError: No runs.
        UserError: A damaged file.
    """
    try:
        folders = [folder for folder in results.glob("*/*/seed_*") if folder.is_dir()]
    except OSError as error:
        raise damaged(results, error) from error
    if not folders:
        if inside := [*islice(_with_runs(results), NAMED)]:
            raise NoRunsError(
                f"{results}: no results here, but in {', '.join(map(str, inside))};",
                f"name one folder, say, --results {shlex.quote(str(inside[0]))}",
            )
        raise NoRunsError(
            f"{results}: no results here;",
            "first run, say, mujoco-sail run --env walker_walk --agents pebble,sail --seeds 5 "
            f"--protocol quick --results {shlex.quote(str(results))}",
        )
    return sorted((read(folder) for folder in folders), key=_place)


def _with_runs(results: Path) -> Iterator[Path]:
    """Sub-folders that are results folders."""
    for folder in sorted(results.glob("*/")):
        if any(folder.glob("*/*/seed_*")):
            yield folder


def check_poolable(records: Sequence[RunRecord]) -> None:
    """Checks that runs measure the same quantity and can be pooled.

    In an environment these must be equal: the environment recipe (protocol, teacher, label
    budget, ...) except `MACHINE`, the versions, the steps of evaluations, and the number of labels
    used by agents that use labels. For an agent, all hyperparameters must be equal. Running runs
    are ignored.

    Raises:
        UserError: Two runs differ; the message names them, the key and both values.
    """
    ended = [record for record in records if record.status != "running"]
    asking = {(record.env, record.agent) for record in ended if record.labels}
    groups: list[GroupValues] = []
    for record in ended:
        arm, settings = (record.env, record.agent), _flat(record.table)
        groups.append((("environment", record.env), record, _of_environment(settings)))
        groups.append((("agent", *arm), record, _of_agent(settings)))
        if record.status == "complete":
            groups.append((("schedule", record.env), record, _schedule(record)))
            if arm in asking:
                groups.append((("labels", record.env), record, {"labels used": record.labels}))
    _agree(groups)


def check_alike(records: Sequence[RunRecord]) -> None:
    """Checks that runs can be pooled over environments.

    They may differ in properties of the task: sizes, label budget, simulator. The protocol, the
    teacher, an agent's hyperparameters and the version of mujoco_sail must be equal.

    Args:
        records: Runs that can be pooled in each environment; running ones are ignored.

    Raises:
        UserError: Two runs differ; the message names them, the key and both values.
    """
    groups: list[GroupValues] = []
    for record in records:
        if record.status == "running":
            continue
        settings = _flat(record.table)
        shared = {
            key: value
            for key, value in settings.items()
            if key in EVERYWHERE or key.startswith("env.oracle.")
        }
        groups.append((("environments",), record, shared))
        groups.append((("agent", record.agent), record, _of_agent(settings)))
    _agree(groups)


def differing(one: RunRecord, other: RunRecord) -> dict[str, tuple[Any, Any]]:
    """Keys in which two complete runs differ, with both values.

    The keys are those that `check_poolable` compares within an environment and for an agent,
    except the agent's name; a key that a run does not have has the value None.
    """
    tables = []
    for record in (one, other):
        settings = _flat(record.table)
        parts = (_of_environment(settings), _of_agent(settings), _schedule(record))
        tables.append({key: value for part in parts for key, value in part.items()})
    mine, theirs = tables
    return {
        key: (mine.get(key), theirs.get(key))
        for key in [*mine, *theirs]
        if key != "agent.name" and differ(key, mine, theirs)
    }


def training_tables(records: Sequence[RunRecord]) -> list[pd.DataFrame]:
    """Reads `training.csv` of an agent's complete runs on one environment.

    It is not read with every run, only for the figures that need it.

    Args:
        records: Runs of the same agent and environment.

    Returns:
        A table per run that logged anything, all with the same steps. Columns are "step", "labels"
        and the agent's metrics; empty cells are nan.

    Raises:
        UserError: A file is damaged, or two differ in their steps.
    """
    paths = [(record, record.folder / "training.csv") for record in records]
    found = [(record, read_training(path)) for record, path in paths if path.exists()]
    found = [(record, table) for record, table in found if not table.empty]
    schedules: list[Mapping[str, Any]] = [
        {f"step of row {i} of training.csv": step for i, step in enumerate(table["step"], start=1)}
        for _, table in found
    ]
    _agree([(("schedule",), record, s) for (record, _), s in zip(found, schedules, strict=True)])
    return [table for _, table in found]


def _agree(groups: Iterable[GroupValues]) -> None:
    """Compares the values of each run with those of the first in its group.

    Raises:
        UserError: Two runs differ; the message names them, the key and both values.
    """
    seen: dict[tuple[str, ...], tuple[RunRecord, Mapping[str, Any]]] = {}
    for group, record, values in groups:
        first, expected = seen.setdefault(group, (record, values))
        _compare(first, expected, record, values)


def _compare(
    first: RunRecord, expected: Mapping[str, Any], second: RunRecord, values: Mapping[str, Any]
) -> None:
    for key in [*expected, *values]:
        if differ(key, expected, values):
            one, other = (table.get(key, "(absent)") for table in (expected, values))
            raise UserError(
                f"{first.folder} and {second.folder} differ in {key}:",
                f"{one!r} and {other!r}; such results are never pooled",
            )


def _place(record: RunRecord) -> tuple[str, str, int]:
    return record.env, record.agent, record.seed


def _of_environment(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: value
        for key, value in settings.items()
        if key in VERSIONS or (key.startswith("env.") and key not in MACHINE)
    }


def _schedule(record: RunRecord) -> dict[str, Any]:
    steps = enumerate(record.evaluations["step"], start=1)
    return {f"step of evaluation {i}": step for i, step in steps}


def _of_agent(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in settings.items() if key.startswith("agent.")}


def _flat(table: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Values of a nested table by dotted keys."""
    flat: dict[str, Any] = {}
    for key, value in table.items():
        name = f"{prefix}{key}"
        flat |= _flat(value, f"{name}.") if isinstance(value, dict) else {name: value}
    return flat
