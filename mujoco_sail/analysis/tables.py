"""Comparison table: one row per environment and agent, with statistics over seeds."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from mujoco_sail.analysis import effect_size, paired, stats, tables_paired, tables_text
from mujoco_sail.analysis.tables_text import NONE, Cells, decimals, interval, number
from mujoco_sail.recipes.load import recipe_names
from mujoco_sail.recipes.settings import nearest
from mujoco_sail.results.pooling import collect
from mujoco_sail.results.read import RunRecord, agents_in_order
from mujoco_sail.system.errors import UserError, one_line

COLUMNS = (
    "environment",
    "agent",
    "protocol",
    "seeds",  # finished seeds, which the statistics are over
    "failed",
    "labels",
    "final_return",
    "iqm",
    "iqm_low",
    "iqm_high",
    "area_under_curve",  # divided by its length, mean over seeds
    "baseline",
    "d",
    "d_low",
    "d_high",
    "improvement",  # probability of improvement over the baseline
    "improvement_low",
    "improvement_high",
    "success_rate",
)
TEXTS = 3  # number of text columns, before the columns of numbers


def table(results: Path, format: str, baseline: str, margin: float) -> str:
    """Comparison of all runs in a folder as text, for `mujoco-sail table`.

    Args:
        results: Results folder.
        format: See `tables_text.render`. In "csv" a row has the numbers of both tables.
        baseline: Agent that the others are compared with.
        margin: Margin of equivalence, as a share of the gain of `sac`.

    Raises:
        UserError: The format or baseline is unknown, or the results cannot be pooled.
    """
    runs = collect(results)
    check_baseline(baseline, runs)
    differences = paired.by_environment(runs, baseline, margin)
    frame = comparison(runs, baseline)
    if format == "csv":
        frame = frame.merge(paired.wide(differences), how="left", on=["environment", "agent"])
    parts = [render(frame, format)]
    if format != "csv" and len(differences):
        parts.append(tables_paired.render(differences, format))
    if format == "md":
        lines = definitions(baseline) + tables_paired.footer(differences, baseline, margin)
        parts.append("\n".join([*lines, *not_counted(runs, baseline)]))
    return "\n\n".join(parts)


def check_baseline(name: str, runs: Sequence[RunRecord]) -> None:
    """Checks that the baseline is an agent of these runs or of the suite, with or without runs.

    Raises:
        UserError: There is no such agent; the message suggests the nearest name.
    """
    known = {run.agent for run in runs} | {*recipe_names("agents")}
    if name not in known:
        raise UserError(f"--baseline: no agent '{one_line(name)}'; {nearest(name, known)}")


def comparison(runs: Sequence[RunRecord], baseline: str) -> pd.DataFrame:
    """Statistics of each agent on each environment.

    Args:
        runs: Poolable runs (see `results.pooling.collect`); running ones are ignored.
        baseline: Agent that the others are compared with.

    Returns:
        Columns `COLUMNS`, nan if a number is undefined; rows by environment, then agents without
        labels, the baseline, the others.
    """
    rows = []
    for env in sorted({run.env for run in runs}):
        here = [run for run in runs if run.env == env and run.status != "running"]
        for agent in agents_in_order(here, baseline):
            arm = [run for run in here if run.agent == agent]
            rivals = [run for run in here if run.agent == baseline != agent]
            names = {"environment": env, "agent": agent, "baseline": baseline}
            rows.append({**names, **_row(arm, _finals(rivals))})
    frame = pd.DataFrame(rows, columns=list(COLUMNS))
    return frame.astype({"seeds": "Int64", "failed": "Int64", "labels": "Int64"})


def render(frame: pd.DataFrame, format: str) -> str:
    """Formats a comparison as text, without a newline at its end.

    Args:
        frame: Table of `comparison`.
        format: See `tables_text.render`.

    Raises:
        UserError: The format is unknown.
    """
    return tables_text.render(frame, cells, TEXTS, format)


def definitions(baseline: str) -> list[str]:
    """Definitions of the columns, below the table."""
    return [
        "final return: mean of the last 10 % of evaluations, then over finished seeds. "
        "IQM: interquartile mean over seeds,",
        "with its 95 % bootstrap interval (of 3 seeds it is their range, which covers 75 %: "
        "prefer 10 or more).",
        f"d: Cohen's d against {baseline}, Hedges-corrected, with its 95 % noncentral-t interval.",
    ]


def not_counted(runs: Sequence[RunRecord], baseline: str) -> list[str]:
    """Lines about environments without the baseline and runs that are not in the statistics."""
    lines = lacking(runs, baseline)
    lines += [f"failed: {place(run)}: {reason(run)}" for run in runs if run.status == "failed"]
    return lines + incomplete(runs)


def incomplete(runs: Sequence[RunRecord]) -> list[str]:
    """Line that names incomplete runs, if there are any."""
    running = [place(run) for run in runs if run.status == "running"]
    return [f"incomplete, not counted: {', '.join(running)}"] if running else []


def lacking(runs: Sequence[RunRecord], baseline: str) -> list[str]:
    """Line that names environments without the baseline, if there are any."""
    ended = [run for run in runs if run.status != "running"]
    have = {run.env for run in ended if run.agent == baseline and run.status == "complete"}
    lack = sorted({run.env for run in ended} - have)
    return [f"no finished run of the baseline {baseline} in: {', '.join(lack)}"] if lack else []


def place(run: RunRecord) -> str:
    """Path of a run in its results folder."""
    return f"{run.env}/{run.agent}/seed_{run.seed}"


def reason(run: RunRecord) -> str:
    """Reason why a run failed, in one line."""
    return run.failure or "no reason recorded"


def _finals(runs: Sequence[RunRecord]) -> stats.Array:
    tables = [run.evaluations for run in runs if run.status == "complete"]
    return np.array([stats.final_return(table["episode_return"]) for table in tables])


def _row(arm: Sequence[RunRecord], against: stats.Array) -> dict[str, object]:
    """Statistics of one agent on one environment.

    Args:
        arm: Runs of the agent, complete or failed.
        against: Final returns of the baseline, shape (seeds,); empty if there are none.
    """
    finished = [run for run in arm if run.status == "complete"]
    row: dict[str, object] = {
        "protocol": one_line(arm[0].table["env"].get("protocol", NONE)),
        "seeds": len(finished),
        "failed": len(arm) - len(finished),
    }
    if not finished:
        return row
    finals = _finals(finished)
    low, high = stats.bootstrap_interval([finals], stats.interquartile_mean, stats.resampling())
    tables = [run.evaluations for run in finished]
    row |= {
        "labels": finished[0].labels,
        "final_return": float(finals.mean()),
        "iqm": float(stats.interquartile_mean(finals)),
        "iqm_low": float(low),
        "iqm_high": float(high),
        "area_under_curve": float(
            np.mean([stats.area_under_curve(t["step"], t["episode_return"]) for t in tables])
        ),
        "success_rate": float(np.mean([stats.final_return(t["success_rate"]) for t in tables])),
    }
    if len(against):
        low, high = stats.bootstrap_interval(
            [finals, against], stats.probability_of_improvement, stats.resampling()
        )
        d_low, d_high = effect_size.effect_interval(finals, against)
        row |= {
            "d": effect_size.hedges_g(finals, against),
            "d_low": d_low,
            "d_high": d_high,
            "improvement": float(stats.probability_of_improvement(finals, against)),
            "improvement_low": float(low),
            "improvement_high": float(high),
        }
    return row


def seeds(complete: object, failed: int) -> str:
    """Number of complete seeds, with that of failed ones if there are any."""
    return f"{complete} ({failed} failed)" if failed else f"{complete}"


def cells(frame: pd.DataFrame) -> Cells:
    """Cells of the displayed table, header first."""
    baseline = frame["baseline"].iloc[0] if len(frame) else "baseline"
    effect = f"d vs {baseline} [95 % interval]"
    header = "environment,agent,protocol,finished seeds,labels,final return,IQM [95 % interval]"
    rows = [[*header.split(","), effect, "success rate"]]
    places = decimals(frame, "final_return")
    for row, digits in zip(frame.to_dict("records"), places, strict=True):
        rows.append(
            [
                row["environment"],
                row["agent"],
                row["protocol"],
                seeds(row["seeds"], row["failed"]),
                NONE if pd.isna(row["labels"]) else str(row["labels"]),
                number(row["final_return"], digits),
                interval(row["iqm"], row["iqm_low"], row["iqm_high"], digits),
                interval(row["d"], row["d_low"], row["d_high"], 2),
                number(row["success_rate"], 3),
            ]
        )
    return rows
