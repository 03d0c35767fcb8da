"""Verdict in words: whether an agent is better than the baseline with the same labels."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from mujoco_sail.analysis.across import HIGH, POOLED
from mujoco_sail.analysis.stats import LEVEL
from mujoco_sail.analysis.tables_text import interval
from mujoco_sail.results.read import (
    RunRecord,
    agents_in_order,
    agents_without_labels,
    count_failed,
)

TITLES = {
    "mrn": "MRN",
    "pebble": "PEBBLE",
    "pebble_npg": "PEBBLE with natural gradients",
    "pebble_revkl": "PEBBLE with the anchor",
    "policer": "PoLiCER",
    "pref_ppo": "PrefPPO",
    "qpa": "QPA",
    "reed": "REED",
    "rime": "RIME",
    "rune": "RUNE",
    "sac": "SAC",
    "sail": "SAIL",
    "sail_revkl": "SAIL-RevKL",
    "sail_revkl_npg": "SAIL-RevKL with natural gradients",
    "surf": "SURF",
}
AREA = "area under the curve"


def verdicts(
    runs: Sequence[RunRecord], comparison: pd.DataFrame, baseline: str, margin: float
) -> list[str]:
    """Verdict of one or two sentences per agent that uses labels, in the order of the tables.

    An agent is better or worse than the baseline if the paired difference in the area under the
    curve, pooled over environments, has a p-value below 0.05 after Holm's correction. Without
    `random` and `sac` this difference has no common unit; then the criterion is that the interval
    of the pooled d excludes zero.

    Args:
        runs: Poolable runs of any status.
        comparison: Table of `paired.compare`.
        baseline: Agent that the others are compared with.
        margin: Margin of equivalence, as in `comparison`.
    """
    judged = [agent for agent in agents_in_order(runs, baseline) if agent != baseline]
    silent = agents_without_labels(runs)
    rows = comparison[comparison["metric"] == "auc"]
    return [
        _verdict(
            rows[rows["agent"] == agent],
            _title(agent),
            _title(baseline),
            margin,
            _failed(runs, (agent, baseline)),
        )
        for agent in judged
        if agent not in silent
    ]


def _failed(runs: Sequence[RunRecord], agents: Sequence[str]) -> str:
    """Numbers of failed runs of agents over all environments, after a comma; empty if none."""
    counts = {agent: count_failed(runs, [agent]) for agent in agents}
    told = " and ".join(f"{count} of {_title(agent)}" for agent, count in counts.items() if count)
    return f", {told} failed" if told else ""


def _verdict(rows: pd.DataFrame, name: str, rival: str, margin: float, failed: str) -> str:
    """Verdict on one agent, from its rows for the area under the curve."""
    none = f"{name} cannot be compared with {rival}"
    if rows.empty:
        return f"{none}: no environment has finished runs of both{failed}."
    single = rows[rows["environment"] != POOLED]
    row = rows[rows["environment"] == POOLED].iloc[0].to_dict()
    # If the only environment has no gain, the share is undefined, but p is not.
    if not (math.isnan(row["p"]) or math.isnan(row["share"])):
        said = _of_shares(row, single, name, rival, margin, failed)
    elif not math.isnan(row["d"]):
        said = _of_effects(row, single, name, rival, failed)
    else:
        return f"{none}: {row['note']}{failed}."
    note = row["note"]
    return f"{said} {note[0].upper()}{note[1:]}." if note else said


def _of_shares(
    row: Mapping[Any, Any],
    single: pd.DataFrame,
    name: str,
    rival: str,
    margin: float,
    failed: str,
) -> str:
    share, low, high = row["share"], row["share_low"], row["share_high"]
    corrected = f"after Holm's correction ({_p(row['p_holm'])})"
    if row["p_holm"] < 1 - LEVEL:
        judgement = f"{name} is {_direction(share)} {rival}, {corrected}"
    elif row["p"] < 1 - LEVEL:
        judgement = f"{_none(name, rival)} {corrected}"
    else:
        judgement = _none(name, rival)
    basis = _basis(single["n_pairs"], single["n_pairs"], failed, row["detectable_share"])
    said = (
        f"{judgement}: paired difference in {AREA} {interval(share, low, high, 2)} "
        f"of {_title(HIGH)}'s gain ({basis})"
    )
    p = row["p_equivalence"]
    if math.isnan(p):
        return f"{said}."
    answer = "yes" if p < 1 - LEVEL else "not shown"
    return f"{said}; equivalence within {margin:g}: {answer} ({_p(p)})."


def _of_effects(
    row: Mapping[Any, Any], single: pd.DataFrame, name: str, rival: str, failed: str
) -> str:
    d, low, high = row["d"], row["d_low"], row["d_high"]
    apart = low > 0 or high < 0
    judgement = f"{name} is {_direction(d)} {rival}" if apart else _none(name, rival)
    basis = _basis(single["seeds"], single["baseline_seeds"], failed, row["detectable_d"])
    return f"{judgement}: d of the {AREA} {interval(d, low, high, 2)} ({basis})."


def _basis(seeds: pd.Series, rivals: pd.Series, failed: str, detectable: float) -> str:
    """Describes the design: seeds, failed runs, environments and detectable effect."""
    counts = " against ".join(dict.fromkeys(_range(column) for column in (seeds, rivals)))
    places = "1 environment" if len(seeds) == 1 else f"each of {len(seeds)} environments"
    said = f"{counts} seeds{failed}{',' if failed else ''} on {places}"
    if math.isnan(detectable):
        return said
    return f"{said}; the design detects {detectable:.2f} with 80 % power"


def _range(counts: pd.Series) -> str:
    few, many = counts.min(), counts.max()
    return f"{few}" if few == many else f"{few} to {many}"


def _none(name: str, rival: str) -> str:
    return f"No difference between {name} and {rival} was detected"


def _direction(difference: float) -> str:
    return "better than" if difference > 0 else "worse than"


def _p(p: float) -> str:
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"


def _title(agent: str) -> str:
    return TITLES.get(agent, agent)
