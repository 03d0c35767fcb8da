"""Provenance of results: environments, versions, machines and training times."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from mujoco_sail.analysis.tables_text import NONE, Cells
from mujoco_sail.results.read import RunRecord
from mujoco_sail.system.durations import duration
from mujoco_sail.system.errors import one_line

# Columns of the table of environments: heading and key of the recipe.
ENVIRONMENT = {
    "protocol": "protocol",
    "Gymnasium id": "id",
    "simulated by": "backend",
    "teacher": "teacher",
    "environment steps": "steps",
    "label budget": "labels",
    "labels per session": "labels_per_session",
    "network": "hidden_units",
    "batch": "batch_size",
}
# Keys of `run.toml` about the hardware; a column without values is omitted.
HARDWARE = ("device", "precision")


def environments(runs: Sequence[RunRecord]) -> Cells:
    """Table of environments, with the settings of the first run of each."""
    rows = [["environment", *ENVIRONMENT]]
    for env in sorted({run.env for run in runs if run.table}):
        table = next(run.table for run in runs if run.env == env and run.table)["env"]
        rows.append([env, *(_text(table, key) for key in ENVIRONMENT.values())])
    return rows


def versions(runs: Sequence[RunRecord]) -> Cells:
    """Table of package versions, with the number of runs if there are several versions."""
    found: dict[str, Counter[str]] = defaultdict(Counter)
    for run in runs:
        for package, version in run.table.get("versions", {}).items():
            found[one_line(package)][one_line(version)] += 1
    rows = [["package", "version"]]
    for package, counts in sorted(found.items()):
        several = [f"{version} ({count} runs)" for version, count in sorted(counts.items())]
        rows.append([package, ", ".join(several if len(counts) > 1 else counts)])
    return rows


def arms(runs: Sequence[RunRecord]) -> Cells:
    """Table of training, a row per environment, agent, machine, precision and commit."""
    groups: dict[tuple[str, ...], list[RunRecord]] = defaultdict(list)
    for run in runs:
        if run.table:
            made = [_text(run.table, key) for key in (*HARDWARE, "commit")]
            groups[run.env, run.agent, *made].append(run)
    rows = [["environment", "agent", "seeds", *HARDWARE, "commit", "wall time per run"]]
    for (env, agent, *made), group in groups.items():
        rows.append([env, agent, spans([run.seed for run in group]), *made, _wall(group)])
    if not groups:
        return rows
    return [list(row) for row in zip(*filter(_tells, zip(*rows, strict=True)), strict=True)]


def _tells(column: Sequence[str]) -> bool:
    """Whether a column has a value in any row."""
    return any(cell != NONE for cell in column[1:])


def spans(numbers: Sequence[int]) -> str:
    """Formats seeds as ranges such as `0-4, 7`."""
    parts: list[list[int]] = []
    for number in sorted(numbers):
        if parts and number == parts[-1][1] + 1:
            parts[-1][1] = number
        else:
            parts.append([number, number])
    return ", ".join(f"{a}" if a == b else f"{a}-{b}" for a, b in parts)


def _wall(runs: Sequence[RunRecord]) -> str:
    """Median and range of the wall time, which is the same for all members of a stack."""
    recorded = [run.table.get("wall_seconds") for run in runs]
    seconds = [value for value in recorded if isinstance(value, int | float) and 0 <= value < 1e12]
    if not seconds:
        return NONE
    least, most = duration(min(seconds)), duration(max(seconds))
    middle = duration(median(seconds))
    return middle if least == most else f"{middle} ({least} to {most})"


def _text(table: Mapping[str, Any], key: str) -> str:
    return one_line(table.get(key, NONE)) or NONE
