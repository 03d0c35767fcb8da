"""Comparison tables over all environments: a row per agent, and per environment and agent."""

import math
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from mujoco_sail.analysis import across, paired, tables, tables_paired
from mujoco_sail.analysis.across import HIGH, LOW, POOLED
from mujoco_sail.analysis.tables_text import NONE, Cells, interval, p_value, render
from mujoco_sail.analysis.verdict import verdicts
from mujoco_sail.results.pooling import collect
from mujoco_sail.results.read import RunRecord, agents_in_order

COLUMNS = (
    "agent",
    "environments",
    "seeds",  # smallest number of complete ones in an environment that has any
    "seeds_most",
    "failed",  # over all environments
    "iqm",  # of the normalised score
    "iqm_low",
    "iqm_high",
    "mean",
    "improvement",  # probability of improvement over the baseline
    "improvement_low",
    "improvement_high",
    "baseline",
    "d",  # pooled
    "d_low",
    "d_high",
    "p",
    "p_holm",
    "reached",  # runs that reached half of the gain of `HIGH`
    "runs",
)
HALF_WAY = f"half of {HIGH}'s gain"


def table(results: Path, format: str, baseline: str, margin: float) -> str:
    """Comparison over all environments of a folder as text, for `mujoco-sail table --across`.

    Arguments are those of `tables.table`.

    Raises:
        UserError: The format or baseline is unknown, the results cannot be pooled, or scores
            cannot be normalised.
    """
    runs = collect(results)
    tables.check_baseline(baseline, runs)
    effects, labels = across.effects(runs, baseline), across.labels_to_reach(runs)
    differences = paired.compare(runs, baseline, margin)
    pooled = differences[differences["environment"] == POOLED]
    frame = summary(runs, effects, labels, baseline)
    if format == "csv":
        numbers = paired.wide(pooled).drop(columns="environment")
        frame = frame.merge(numbers, how="left", on="agent")
    parts = [render(frame, summary_cells, 1, format)]
    if format != "csv" and len(pooled):
        parts.append(tables_paired.render(pooled, format))
    if format == "md":
        parts.append(
            "\n".join(f"- {line}" for line in verdicts(runs, differences, baseline, margin))
        )
        each = single(runs, effects, labels, baseline)
        parts.append(render(each, lambda frame: single_cells(frame, baseline), 2, format))
        lines = ["First and last table:", *definitions(baseline)]
        if below := tables_paired.footer(differences, baseline, margin):
            lines += ["Second table:", *below]
        parts.append("\n".join([*lines, *tables.not_counted(runs, baseline)]))
    return "\n\n".join(filter(None, parts))


def summary(
    runs: Sequence[RunRecord], effects: pd.DataFrame, labels: pd.DataFrame, baseline: str
) -> pd.DataFrame:
    """Statistics of each agent over all environments.

    Args:
        runs: Poolable runs (see `results.pooling.collect`).
        effects: See `across.effects`.
        labels: See `across.labels_to_reach`.
        baseline: Agent that the others are compared with.

    Returns:
        Columns `COLUMNS`, nan if a number is undefined; agents without labels first, then the
        baseline, then the others. Agents whose runs all failed have a row, too.
    """
    scores = across.pooled(across.normalised_scores(runs), baseline)
    together = effects[effects["environment"] == POOLED].drop(columns=["environment", "seeds"])
    frame = _totals(labels).merge(scores, how="left", on="agent")
    frame = frame.merge(together, how="left", on="agent")
    return _in_order(frame, ["agent"], runs, baseline).assign(baseline=baseline)[list(COLUMNS)]


def single(
    runs: Sequence[RunRecord], effects: pd.DataFrame, labels: pd.DataFrame, baseline: str
) -> pd.DataFrame:
    """Effects and labels of each agent on each environment, in the order of `summary`.

    Arguments are those of `summary`.
    """
    frame = labels.merge(effects.drop(columns="seeds"), how="left", on=["environment", "agent"])
    return _in_order(frame, ["environment", "agent"], runs, baseline)


def definitions(baseline: str) -> list[str]:
    """Definitions of the columns, below the tables."""
    return [
        f"score: final return, scaled in each environment so that the mean of {LOW} is 0 and that "
        f"of {HIGH} is 1.",
        "IQM: interquartile mean over environments and seeds, of agents that have runs in all of "
        "the environments.",
        "Environments weigh the same. Intervals: 95 % bootstrap, seeds resampled within "
        "environments.",
        f"P(better): probability that a seed is above one of {baseline}, mean over environments.",
        f"d: Cohen's d of the final return against {baseline}, Hedges-corrected; in the first "
        "table the mean over environments.",
        "p: two-sided permutation test of the final return, seeds exchanged within environments; "
        "Holm: corrected for all rows of the same table.",
        f"{HALF_WAY}: from {LOW}, at any evaluation. Labels used by then: median over seeds; in "
        "parentheses the runs that got there.",
        f"The means of {LOW} and {HIGH} are taken as known: their own uncertainty is in no "
        "interval of a score.",
    ]


def _in_order(
    frame: pd.DataFrame, columns: list[str], runs: Sequence[RunRecord], baseline: str
) -> pd.DataFrame:
    """Sorts rows by columns, agents in the display order."""
    order = {agent: place for place, agent in enumerate(agents_in_order(runs, baseline))}

    def key(names: pd.Series) -> pd.Series:
        return names.map(order) if names.name == "agent" else names

    return frame.sort_values(columns, key=key, ignore_index=True)


def _totals(labels: pd.DataFrame) -> pd.DataFrame:
    """Numbers of runs and of those that reached the return, by agent over its environments."""
    groups = labels.assign(there=labels["seeds"].where(labels["seeds"] > 0)).groupby("agent")
    totals = groups.agg(
        environments=("there", "count"),
        seeds=("there", "min"),
        seeds_most=("seeds", "max"),
        failed=("failed", "sum"),
        reached=("reached", "sum"),
        runs=("seeds", "sum"),
    ).reset_index()
    return totals.assign(seeds=totals["seeds"].fillna(0).astype("int64"))


def summary_cells(frame: pd.DataFrame) -> Cells:
    """Cells of the displayed table of `summary`, header first."""
    baseline = frame["baseline"].iloc[0] if len(frame) else "baseline"
    header = ["agent", "environments", "seeds in each", "IQM of score [95 % interval]"]
    header += [f"P(better than {baseline}) [95 %]", f"pooled d vs {baseline} [95 % interval]"]
    rows = [[*header, "p (Holm)", f"runs at {HALF_WAY}"]]
    for row in frame.to_dict("records"):
        few, many = row["seeds"], row["seeds_most"]
        seeds = f"{few}" if few == many else f"{few} to {many}"
        rows.append(
            [
                row["agent"],
                str(row["environments"]),
                tables.seeds(seeds, row["failed"]),
                interval(row["iqm"], row["iqm_low"], row["iqm_high"], 2),
                interval(row["improvement"], row["improvement_low"], row["improvement_high"], 2),
                interval(row["d"], row["d_low"], row["d_high"], 2),
                p_value(row["p_holm"]),
                f"{row['reached']} of {row['runs']}",
            ]
        )
    return rows


def single_cells(frame: pd.DataFrame, baseline: str) -> Cells:
    """Cells of the displayed table of `single`, header first."""
    header = ["environment", "agent", "seeds", f"d vs {baseline} [95 % interval]"]
    rows = [[*header, "p", "p (Holm)", f"labels to {HALF_WAY}"]]
    for row in frame.to_dict("records"):
        rows.append(
            [
                row["environment"],
                row["agent"],
                tables.seeds(row["seeds"], row["failed"]),
                interval(row["d"], row["d_low"], row["d_high"], 2),
                p_value(row["p"]),
                p_value(row["p_holm"]),
                _labels(row["labels"], row["reached"], row["seeds"]),
            ]
        )
    return rows


def _labels(labels: float, reached: int, runs: int) -> str:
    if math.isnan(labels):
        return NONE
    text = "not reached" if math.isinf(labels) else f"{labels:.0f}"
    return f"{text} ({reached} of {runs})"
