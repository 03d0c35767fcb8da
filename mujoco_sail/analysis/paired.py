"""Paired comparison of agents with a baseline: differences, equivalence, detectable effects.

All agents start from the same state with seed n, so that runs with equal seeds are paired.
Environments have equal weight.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from mujoco_sail.analysis import effect_size, estimates, stats
from mujoco_sail.analysis.across import HIGH, LOW, METRICS, POOLED, gain, measures
from mujoco_sail.analysis.estimates import Estimate
from mujoco_sail.analysis.inference import holm
from mujoco_sail.results.pooling import check_alike
from mujoco_sail.results.read import RunRecord, agents_in_order

NUMBERS = (
    "n_pairs",  # seeds that both agents have
    "difference",  # in returns; for single environments only
    "low",
    "high",
    "share",  # the difference divided by the gain of `HIGH` over `LOW` in the same metric
    "share_low",
    "share_high",
    "unpaired_share",  # over all seeds of both
    "unpaired_share_low",
    "unpaired_share_high",
    "d",
    "d_low",
    "d_high",
    "p",  # test of the paired difference
    "p_holm",
    "p_equivalence",
    "detectable_share",
    "detectable_d",
)
COLUMNS = (
    "environment",
    "agent",
    "baseline",
    "metric",
    "environments",
    "seeds",  # number of the agent's seeds, in the environment with the fewest
    "baseline_seeds",
    *NUMBERS,
    "note",  # values that do not vary, or too few seeds; else empty
)


@dataclass(frozen=True)
class Match:
    """An agent and the baseline on one environment, in one metric.

    Attributes:
        environment: Name of the environment.
        scores: Values of the agent, by seed.
        rivals: Values of the baseline, by seed.
        gain: Mean of `HIGH` minus mean of `LOW`; nan if one is missing or it is not positive.
    """

    environment: str
    scores: "pd.Series[float]"
    rivals: "pd.Series[float]"
    gain: float

    @property
    def pair(self) -> tuple[stats.Array, stats.Array]:
        """All values of both."""
        return np.asarray(self.scores), np.asarray(self.rivals)

    @property
    def seeds(self) -> "pd.Index[int]":
        """Seeds that both have."""
        return self.scores.index.intersection(self.rivals.index)

    def paired(self) -> Estimate:
        """Mean of the paired differences."""
        mine, theirs = self.scores.loc[self.seeds], self.rivals.loc[self.seeds]
        return estimates.paired(np.asarray(mine), np.asarray(theirs))

    def note(self) -> str:
        """Reason why a number is undefined or has no standard error, if so."""
        pairs = len(self.seeds)
        sign = "positive" if self.scores.mean() > self.rivals.mean() else "negative"
        if math.isnan(effect_size.cohens_d(*self.pair)) and min(map(len, self.pair)) > 1:
            return f"on {self.environment} neither agent's returns vary: all differences are {sign}"
        if pairs < 2:
            count = "one common seed" if pairs else "no common seed"
            return f"on {self.environment} the two have {count}"
        if self.paired().varies:
            return ""
        if self.paired().value == 0:
            return f"on {self.environment} all paired differences are 0"
        return f"on {self.environment} all paired differences are equal and {sign}"


def compare(runs: Sequence[RunRecord], baseline: str, margin: float) -> pd.DataFrame:
    """Compares every agent with the baseline, on each environment and over all of them.

    Args:
        runs: Poolable runs; only complete ones are used.
        baseline: Agent that the others are compared with.
        margin: Margin of equivalence, as a share of `HIGH`'s gain.

    Returns:
        The rows of `by_environment`, then one per metric and agent with environment `POOLED`, over
        the environments in which both have complete runs. A pooled difference is the mean over
        environments of the mean paired differences, each divided by the gain there; its standard
        error is that of the seeds within environments. No environment is excluded: a pooled
        number is nan if that of any environment is.

    Raises:
        UserError: The environments cannot be pooled, see `results.pooling.check_alike`.
    """
    check_alike(runs)
    single = by_environment(runs, baseline, margin)
    together = [
        _row(POOLED, agent, baseline, metric, list(matches.values()), margin)
        for metric in METRICS
        for agent, matches in _matches(runs, baseline, metric).items()
    ]
    return pd.concat([single, _frame(together)], ignore_index=True) if together else single


def by_environment(runs: Sequence[RunRecord], baseline: str, margin: float) -> pd.DataFrame:
    """Compares every agent with the baseline on each environment where both have complete runs.

    Arguments are those of `compare`.

    Returns:
        Columns `COLUMNS`, nan if a number is undefined; a row per metric, environment and agent.
        Intervals are 95 %. `difference` and `share` have a paired t test, `unpaired_share` has
        Welch's; for d see `effect_size`. p-values are two-sided. The uncertainty of the gain is
        neglected. `p_holm` corrects over all rows of a metric; `p_equivalence` is that of two
        one-sided tests against the margin; `detectable_share` and `detectable_d` are the effects
        that a test at 5 % detects with 80 % power.
    """
    rows = [
        _row(env, agent, baseline, metric, [match], margin)
        for metric in METRICS
        for agent, matches in _matches(runs, baseline, metric).items()
        for env, match in matches.items()
    ]
    rows.sort(key=lambda row: (row["metric"], str(row["environment"])))  # stable
    return _frame(rows)


def wide(frame: pd.DataFrame) -> pd.DataFrame:
    """Table with one row per environment and agent; columns have the metric as prefix."""
    parts = [
        frame[frame["metric"] == metric]
        .set_index(["environment", "agent"])[list(NUMBERS)]
        .add_prefix(f"{metric}_")
        for metric in METRICS
    ]
    return pd.concat(parts, axis=1).reset_index()


def wide_columns() -> tuple[str, ...]:
    """Names of the columns with numbers in `wide`."""
    return tuple(f"{metric}_{number}" for metric in METRICS for number in NUMBERS)


def _matches(runs: Sequence[RunRecord], baseline: str, metric: str) -> dict[str, dict[str, Match]]:
    """Matches by agent and environment; agents in order, environments sorted."""
    arms: dict[tuple[str, str], pd.Series[float]] = {
        (str(env), str(agent)): arm.set_index("seed")[metric].sort_index()
        for (env, agent), arm in measures(runs).groupby(["environment", "agent"])
    }
    found: dict[str, dict[str, Match]] = {}
    for agent in agents_in_order(runs, baseline):
        matches = {
            env: Match(env, arm, arms[env, baseline], _gain(arms, env))
            for (env, name), arm in arms.items()
            if name == agent != baseline and (env, baseline) in arms
        }
        if matches:
            found[agent] = matches
    return found


def _gain(arms: "dict[tuple[str, str], pd.Series[float]]", env: str) -> float:
    if (env, LOW) not in arms or (env, HIGH) not in arms:
        return math.nan
    return gain(*(float(arms[env, agent].mean()) for agent in (LOW, HIGH)))


def _row(
    env: str, agent: str, baseline: str, metric: str, matches: Sequence[Match], margin: float
) -> dict[str, object]:
    """Row for one environment, or for the mean over several."""
    one = matches[0].paired() if len(matches) == 1 else Estimate(math.nan, math.nan, math.nan)
    share = estimates.mean([match.paired().over(match.gain) for match in matches])
    rough = estimates.mean([estimates.unpaired(*m.pair).over(m.gain) for m in matches])
    d, d_low, d_high = effect_size.pooled_effect([match.pair for match in matches])
    counts = [(len(match.scores), len(match.rivals)) for match in matches]
    numbers = (
        *(
            sum(len(match.seeds) for match in matches),
            one.value,
            *one.interval(),
            share.value,
            *share.interval(),
        ),
        *(rough.value, *rough.interval(), d, d_low, d_high),
        *(one.p() if len(matches) == 1 else share.p(), math.nan, share.p_equivalence(margin)),
        *(share.detectable(), effect_size.detectable_effect(counts)),
    )
    return {
        "environment": env,
        "agent": agent,
        "baseline": baseline,
        "metric": metric,
        "environments": len(matches),
        "seeds": min(n for n, _ in counts),
        "baseline_seeds": min(m for _, m in counts),
        **dict(zip(NUMBERS, numbers, strict=True)),
        "note": "; ".join(filter(None, (match.note() for match in matches))),
    }


def _frame(rows: Sequence[dict[str, object]]) -> pd.DataFrame:
    """Table of rows, with Holm's correction within each metric."""
    frame = pd.DataFrame(rows, columns=list(COLUMNS))
    corrected = frame.groupby("metric", group_keys=False)["p"].transform(
        lambda p: pd.Series(holm(p), index=p.index)
    )
    return frame.assign(p_holm=corrected.astype(np.float64))
