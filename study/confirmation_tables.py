"""Tables of the confirmation in docs/study.md: `python study/confirmation_tables.py results`."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mujoco_sail.analysis import across, paired
from mujoco_sail.analysis.defaults import MARGIN
from mujoco_sail.analysis.inference import holm
from mujoco_sail.analysis.tables_text import interval, p_value
from mujoco_sail.results.pooling import collect
from mujoco_sail.results.read import RunRecord

COMPARED = (("s_0.5", "s_0"), ("revkl_0.5", "revkl_0"), ("revkl_0.5", "s_0.5"))
FOLDERS = (
    "confirmation_choice/few",
    "confirmation_choice/many",
    "confirmation",
    "confirmation_control",
)
COLUMNS = "pairs | AUC: share of sac's gain [95 % t] | p | p of equivalence | detectable share |"


def choice(few: Sequence[RunRecord], many: Sequence[RunRecord]) -> list[str]:
    """Score of PEBBLE with fewer and with more labels in area under the curve.

    Scores are on the scale of random actions (0) and SAC (1), which are among the runs of `few`.
    The last columns are SAC minus random and two standard errors of it, on the scale of returns.
    """
    table = ["| task | labels | seeds | score of s_0 | sac - random | two standard errors |"]
    table.append("|---|---:|---:|---:|---:|---:|")
    ends = across.measures(few).groupby(["environment", "agent"])["auc"]
    for runs in (few, many):
        done = [run for run in runs if run.status == "complete"]
        labels = {run.env: run.labels for run in done if run.agent == "s_0"}
        areas = across.measures(runs).groupby(["environment", "agent"])["auc"]
        for env, count in labels.items():
            if not {(env, across.LOW), (env, across.HIGH)} <= {*ends.groups}:
                continue  # not yet
            area = areas.get_group((env, "s_0"))
            low, high = (ends.get_group((env, agent)) for agent in (across.LOW, across.HIGH))
            gain = high.mean() - low.mean()
            score = (area.mean() - low.mean()) / gain
            error = np.hypot(low.sem(), high.sem())
            cells = f"{len(area)} | {score:.2f} | {gain:.1f} | {2 * error:.1f}"
            table.append(f"| {env} | {count} | {cells} |")
    return table


def declared(runs: Sequence[RunRecord]) -> list[str]:
    """The declared comparisons that have runs, mean of the tasks; Holm is over these."""
    found = []
    for arm, rival in COMPARED:
        kept = [run for run in runs if run.agent in (arm, rival, across.LOW, across.HIGH)]
        rows = paired.compare(kept, rival, MARGIN).query("agent == @arm and metric == 'auc'")
        pooled = rows[rows["environment"] == across.POOLED].to_dict("records")
        found += [(f"{arm} | {rival}", row) for row in pooled]
    adjusted = holm(pd.Series([row["p"] for _, row in found]))
    table = [f"| arm | against | tasks | {COLUMNS} p (Holm) |", "|---|---|" + 7 * "---:|"]
    for (name, row), p in zip(found, adjusted, strict=True):
        table.append(f"| {name} | {row['environments']} | {_cells(row)} | {p_value(p)} |")
    return table


def control(runs: Sequence[RunRecord], few: Sequence[RunRecord]) -> list[str]:
    """The positive control, one label in each session, against `s_0` on every task."""
    ends = [run for run in runs if run.agent in ("s_0", across.LOW, across.HIGH)]
    fewer = [replace(run, agent="one_label") for run in few]
    rows = paired.by_environment([*ends, *fewer], "s_0", MARGIN)
    rows = rows.query("agent == 'one_label' and metric == 'auc'")
    table = [f"| task | {COLUMNS}", "|---|" + 5 * "---:|"]
    table += [f"| {row['environment']} | {_cells(row)} |" for row in rows.to_dict("records")]
    return table


def _cells(row: Mapping[Any, Any]) -> str:
    area = interval(row["share"], row["share_low"], row["share_high"], digits=2)
    tests = f"{p_value(row['p'])} | {p_value(row['p_equivalence'])}"
    return f"{row['n_pairs']} | {area} | {tests} | {row['detectable_share']:.2f}"


def main(results: Path) -> None:
    """Prints the tables of the runs that exist."""
    few, many, arms, one = (
        collect(results / folder) if (results / folder).is_dir() else [] for folder in FOLDERS
    )
    tables = [choice(few, many)]
    if arms:
        tables += [declared(arms), control(arms, one)]
    print("\n\n".join("\n".join(table) for table in tables))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
