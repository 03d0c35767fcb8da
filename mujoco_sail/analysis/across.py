"""Statistics across environments: normalised scores, and effects against a baseline.

The seed is the replicate. All environments have equal weight, whatever their number of seeds.

Sources: Agarwal et al. 2021 (arXiv 2108.13264) for normalised scores, the stratified bootstrap
and performance profiles; see also `stats` and `inference`.
"""

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from mujoco_sail.analysis import commands, effect_size, inference, stats
from mujoco_sail.recipes import settings
from mujoco_sail.results.pooling import check_alike
from mujoco_sail.results.read import RunRecord, agents_in_order, failures
from mujoco_sail.system.errors import UserError

LOW, HIGH = "random", "sac"  # agents whose mean final returns have the scores 0 and 1
POOLED = settings.POOLED  # instead of an environment's name
HALF = 0.5
METRICS = ("auc", "final")  # area under the learning curve divided by its length; final return
EFFECTS = ("environment", "agent", "d", "d_low", "d_high", "p", "p_holm", "seeds")


def normalised_scores(runs: Sequence[RunRecord]) -> pd.DataFrame:
    """Normalised scores: final returns on one scale for all environments.

    score = (final return - mean of `LOW`) / (mean of `HIGH` - mean of `LOW`), by environment

    Args:
        runs: Poolable runs (see `results.pooling.collect`); only complete ones are used.

    Returns:
        Columns environment, agent, seed, score; a row per complete run, in the runs' order.

    Raises:
        UserError: An environment has no complete run of one of these agents, or `HIGH` is not
            above `LOW` there; or the environments cannot be pooled
            (`results.pooling.check_alike`).
    """
    check_alike(runs)
    scale = _scale_ends(runs)
    frame = measures(runs)
    zero = frame["environment"].map({env: ends[0] for env, ends in scale.items()})
    one = frame["environment"].map({env: ends[1] for env, ends in scale.items()})
    scores = (frame["final"] - zero) / (one - zero)
    return frame.drop(columns=list(METRICS)).assign(score=scores.astype("float64"))


def measures(runs: Sequence[RunRecord]) -> pd.DataFrame:
    """Table with columns environment, agent, seed and the `METRICS`; a row per complete run."""
    rows = []
    for run in runs:
        if run.status == "complete":
            steps, returns = run.evaluations["step"], run.evaluations["episode_return"]
            scores = stats.area_under_curve(steps, returns), stats.final_return(returns)
            rows.append((run.env, run.agent, run.seed, *scores))
    return pd.DataFrame(rows, columns=["environment", "agent", "seed", *METRICS])


def effects(runs: Sequence[RunRecord], baseline: str) -> pd.DataFrame:
    """Effect sizes of every agent against the baseline, on the final return.

    Args:
        runs: Poolable runs; only complete ones are used.
        baseline: Agent that the others are compared with.

    Returns:
        Columns `EFFECTS`, nan where a number is undefined. A row per environment and agent other
        than the baseline, where both have complete runs: Hedges-corrected d, its noncentral-t
        interval, the permutation test of the difference of means, and the agent's seeds. Then a
        row per agent with environment `POOLED`, over these environments: the mean of d, the
        permutation test within environments, and the sum of the seeds; without d and p if one of
        the environments has none. `p_holm` corrects two families: all rows of single
        environments, and all pooled rows.

    Raises:
        UserError: The environments cannot be pooled, see `results.pooling.check_alike`.
    """
    check_alike(runs)
    arms = _arms(measures(runs), "final")
    single, together = [], []
    for agent in [name for name in agents_in_order(runs, baseline) if name != baseline]:
        pairs = _pairs(arms, agent, baseline)
        single += [_effect(env, agent, *pair) for env, pair in pairs.items()]
        if pairs:
            all_pairs = list(pairs.values())
            d, low, high = effect_size.pooled_effect(all_pairs)
            p = inference.stratified_permutation_p(all_pairs, stats.resampling())
            seeds = sum(len(scores) for scores, _ in all_pairs)
            together.append(
                (POOLED, agent, d, low, high, math.nan if math.isnan(d) else p, math.nan, seeds)
            )
    single.sort(key=lambda row: row[0])  # a stable sort keeps the order of agents
    families = [pd.DataFrame(rows, columns=list(EFFECTS)) for rows in (single, together)]
    corrected = [family.assign(p_holm=inference.holm(family["p"])) for family in families]
    return pd.concat([family for family in corrected if len(family)] or families[:1]).reset_index(
        drop=True
    )


def pooled(scores: pd.DataFrame, baseline: str) -> pd.DataFrame:
    """Normalised scores of each agent over all its environments.

    Args:
        scores: See `normalised_scores`.
        baseline: Agent that the others are compared with.

    Returns:
        Columns agent, iqm, iqm_low, iqm_high, mean, improvement, improvement_low,
        improvement_high, in the order in which agents first appear in `scores`. The improvement
        is the probability that a seed is above one of the baseline, averaged over the
        environments that have both; nan for the baseline. The other columns are nan for an agent
        without runs in every environment, see `everywhere`. Intervals: 95 % bootstrap, seeds
        resampled within environments.
    """
    arms, comparable = _arms(scores, "score"), everywhere(scores)
    rows = []
    for agent in scores["agent"].unique():
        row: dict[str, object] = {"agent": agent}
        if agent in comparable:
            samples = [arm for (_, name), arm in arms.items() if name == agent]
            low, high = stats.bootstrap_interval(
                samples, stats.interquartile_mean, stats.resampling()
            )
            row["iqm"] = float(stats.interquartile_mean(*samples))
            row |= {"iqm_low": float(low), "iqm_high": float(high)}
            row["mean"] = float(_mean_of_means(*samples))
        pairs = _pairs(arms, agent, baseline).values() if agent != baseline else []
        if pairs:
            sides = [scores for scores, _ in pairs] + [rivals for _, rivals in pairs]
            low, high = stats.bootstrap_interval(sides, _improvement, stats.resampling())
            row["improvement"] = float(_improvement(*sides))
            row |= {"improvement_low": float(low), "improvement_high": float(high)}
        rows.append(row)
    columns = "agent iqm iqm_low iqm_high mean improvement improvement_low improvement_high"
    return pd.DataFrame(rows, columns=columns.split())


def everywhere(scores: pd.DataFrame) -> set[str]:
    """Agents with runs in every environment, whose mean scores can be compared."""
    environments = scores.groupby("agent")["environment"].nunique()
    return set(environments.index[environments == scores["environment"].nunique()])


def profiles(scores: pd.DataFrame, thresholds: ArrayLike) -> pd.DataFrame:
    """Performance profiles: fraction of an agent's runs with a score above each threshold.

    Args:
        scores: See `normalised_scores`.
        thresholds: Shape (thresholds,).

    Returns:
        Columns agent, threshold, share, low, high: the fraction averaged over environments, with
        its pointwise 95 % interval by the stratified bootstrap.
    """
    levels = np.asarray(thresholds, dtype=np.float64)
    arms = _arms(scores, "score")
    frames = []
    for agent in scores["agent"].unique():
        samples = [
            (arm[:, None] > levels).astype(np.float64)
            for (_, name), arm in arms.items()
            if name == agent
        ]
        low, high = stats.mean_interval(samples)
        share = np.mean([sample.mean(axis=0) for sample in samples], axis=0)
        columns = {"threshold": levels, "share": share, "low": low, "high": high}
        frames.append(pd.DataFrame({"agent": agent, **columns}))
    return pd.concat(frames, ignore_index=True)


def labels_to_reach(runs: Sequence[RunRecord], share: float = HALF) -> pd.DataFrame:
    """Labels used when the return first reaches a share of the gain of `HIGH` over `LOW`.

    Args:
        runs: Poolable runs; only complete ones are used.
        share: The return to reach is mean of `LOW` + share (mean of `HIGH` - mean of `LOW`).

    Returns:
        Columns environment, agent, labels, reached, seeds, failed: the median over seeds, where a
        seed that never reaches the return counts as infinity; the number of seeds that reach it;
        the numbers of complete and of failed seeds. Labels are nan for agents that use none. An
        agent without a complete seed has a row, too.

    Raises:
        UserError: See `normalised_scores`.
    """
    rows, failed = [], failures(runs)
    for env, (zero, one) in _scale_ends(runs).items():
        here = [run for run in runs if run.env == env and run.status != "running"]
        for agent in agents_in_order(here, ""):
            arm = [run for run in here if run.agent == agent and run.status == "complete"]
            used = [_first_labels(run, zero + share * (one - zero)) for run in arm]
            median = float(np.median(used)) if any(run.labels for run in arm) else math.nan
            counts = int(np.isfinite(used).sum()), len(arm), failed[env, agent]
            rows.append((env, agent, median, *counts))
    columns = ["environment", "agent", "labels", "reached", "seeds", "failed"]
    return pd.DataFrame(rows, columns=columns)


def _first_labels(run: RunRecord, target: float) -> float:
    """Labels used at the first evaluation that reaches the target, inf if there is none."""
    reached = run.evaluations.loc[run.evaluations["episode_return"] >= target, "labels"]
    return float(reached.iloc[0]) if len(reached) else math.inf


def _scale_ends(runs: Sequence[RunRecord]) -> dict[str, tuple[float, float]]:
    """Mean final returns of `LOW` and `HIGH` in each environment with finished runs."""
    means = measures(runs).groupby(["environment", "agent"])["final"].mean()
    scale = {}
    for env, some in sorted({run.env: run for run in runs if run.status != "running"}.items()):
        seeds = sorted({run.seed for run in runs if run.env == env})
        for agent in (LOW, HIGH):
            if (env, agent) not in means:
                raise UserError(
                    f"{env}: no finished run of {agent}, which scores are normalised with;",
                    f"first run {commands.command_beside(some, (LOW, HIGH), seeds)}",
                )
        ends = float(means[env, LOW]), float(means[env, HIGH])
        if math.isnan(gain(*ends)):
            raise UserError(
                f"{env}: the mean final return of {HIGH}, {ends[1]:.6g}, is not above that of "
                f"{LOW}, {ends[0]:.6g}: scores cannot be normalised"
            )
        scale[env] = ends
    return scale


def gain(low: float, high: float) -> float:
    """Mean of `HIGH` minus that of `LOW`; nan unless it is positive by more than rounding."""
    return high - low if high - low > stats.ROUNDING * max(abs(low), abs(high)) else math.nan


def _arms(frame: pd.DataFrame, column: str) -> dict[tuple[str, str], stats.Array]:
    """Values of a column by environment and agent, shape (seeds,), sorted by environment."""
    groups = frame.groupby(["environment", "agent"])[column]
    return {(str(env), str(agent)): arm.to_numpy() for (env, agent), arm in groups}


def _pairs(
    arms: dict[tuple[str, str], stats.Array], agent: str, baseline: str
) -> dict[str, tuple[stats.Array, stats.Array]]:
    """Values of an agent and of the baseline in each environment that has both."""
    return {
        env: (arm, arms[env, baseline])
        for (env, name), arm in arms.items()
        if name == agent and (env, baseline) in arms
    }


def _effect(
    env: str, agent: str, scores: stats.Array, rivals: stats.Array
) -> tuple[str, str, float, float, float, float, float, int]:
    low, high = effect_size.effect_interval(scores, rivals)
    d = effect_size.hedges_g(scores, rivals)
    p = inference.permutation_p(scores, rivals, stats.resampling())
    return env, agent, d, low, high, math.nan if math.isnan(d) else p, math.nan, len(scores)


def _mean_of_means(*samples: stats.Array) -> stats.Array:
    return np.asarray(sum(sample.mean(axis=-1) for sample in samples) / len(samples))


def _improvement(*sides: stats.Array) -> stats.Array:
    """Mean over environments of the probability of improvement.

    `sides` has the agent's sample in each environment, then the baseline's in each.
    """
    half = len(sides) // 2
    each = [
        stats.probability_of_improvement(*pair)
        for pair in zip(sides[:half], sides[half:], strict=True)
    ]
    return np.asarray(sum(each) / half)
