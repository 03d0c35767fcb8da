"""The paper's claims, each with a measurement and the verdict that follows from it.

Source of the claims: SAIL-RevKL (arXiv 2606.31524).
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mujoco_sail.analysis import stats
from mujoco_sail.theory.ascent import SAME_VALUE
from mujoco_sail.theory.experiment import Tables

Array = NDArray[np.float64]

FIT_FACTOR = 30  # the slope is fitted to the last 1.5 decades, from samples / 30 on
ZERO = 1e-6  # smaller PL ratios count as 0, as at a stationary point
UNKNOWN_RATE = -0.5  # slope if a suboptimality of eps needs 1 / eps^2 samples


@dataclass(frozen=True)
class Rate:
    """Convergence of the sampled runs of one gamma.

    Attributes:
        gamma: Weight of the anchor.
        rate: a in the step size a / t, the best of those tried.
        samples: Preferences used at each of C checkpoints, [C].
        suboptimality: J_g* - J_g, [C, seeds].
        loss: J* - J, [C, seeds].
        slope: Slope of log mean suboptimality against log samples, over the last 1.5 decades.
        low: Lower end of the slope's 95 % bootstrap interval over seeds.
        high: Upper end of the same interval.
    """

    gamma: float
    rate: float
    samples: Array
    suboptimality: Array
    loss: Array
    slope: float
    low: float
    high: float


def rate_of(convergence: pd.DataFrame, gamma: float) -> Rate:
    """Convergence of the runs of one gamma with the best rate."""
    runs = convergence[convergence["gamma"] == gamma]
    last = runs[runs["samples"] == runs["samples"].max()]
    rate = float(last.groupby("rate")["suboptimality"].mean().idxmin())
    chosen = runs[runs["rate"] == rate].pivot(
        index="samples", columns="seed", values=["suboptimality", "loss"]
    )
    samples = chosen.index.to_numpy(dtype=np.float64)
    late = samples >= samples[-1] / FIT_FACTOR
    log_samples = np.log(samples[late]) - np.log(samples[late]).mean()

    def slope(*curves: Array) -> Array:
        # Not finite if runs exceed the J_g* that was found.
        with np.errstate(invalid="ignore", divide="ignore"):
            log_mean = np.log(stats.mean(*curves))
        return np.asarray(np.tensordot(log_samples, log_mean, 1) / (log_samples @ log_samples))

    suboptimality = chosen["suboptimality"].to_numpy(dtype=np.float64)
    low, high = stats.bootstrap_interval([suboptimality[late].T], slope, stats.resampling())
    return Rate(
        gamma,
        rate,
        samples,
        suboptimality,
        chosen["loss"].to_numpy(dtype=np.float64),
        float(slope(suboptimality[late])),
        float(low),
        float(high),
    )


def anchor_of(curvature: pd.DataFrame) -> float | None:
    """Smallest gamma from which J_g is concave at all points of all problems, or None."""
    worst = curvature.groupby("gamma")["share_not_concave"].max().sort_index(ascending=False)
    concave = worst[(worst == 0).cummin()]
    return float(concave.index.min()) if len(concave) else None


@dataclass(frozen=True)
class Claim:
    """Claim of the paper, with the measurement and whether it supports the claim."""

    claim: str
    measured: str
    holds: bool


def evaluate_claims(tables: Tables, rates: dict[float, Rate]) -> list[Claim]:
    """Evaluates the claims of the paper.

    Args:
        tables: Tables of `experiment.run`.
        rates: Result of `rate_of` for every gamma.
    """
    anchor = anchor_of(tables["curvature"])
    gamma = max(rates) if anchor is None else anchor
    landscape = _landscape(tables, anchor, gamma)
    return landscape + _sampling(rates[0.0], rates[gamma]) + _price(tables, rates, gamma)


def _landscape(tables: Tables, anchor: float | None, gamma: float) -> list[Claim]:
    share = _at(tables["curvature"], 0.0, "share_not_concave")
    left = _at(tables["curvature"], gamma, "share_not_concave").max()
    points = int(_at(tables["curvature"], 0.0, "points").sum())
    below = 1 - _at(tables["bias"], 0.0, "share_of_ascents_at_maximum")
    share_at_maximum = _at(tables["bias"], gamma, "share_of_ascents_at_maximum")
    free = _at(tables["pl_ratio"], 0.0, "worst_found_projected")
    worst = _at(tables["pl_ratio"], gamma, "worst_found_projected")
    sampled_free = _at(tables["pl_ratio"], 0.0, "worst_sampled")
    sampled = _at(tables["pl_ratio"], gamma, "worst_sampled")
    factor = sampled / sampled_free
    return [
        Claim(
            "SAIL's J is not concave",
            f"not concave at {share.median():.0%} of the ball's points "
            f"({share.min():.0%} to {share.max():.0%} over {len(share)} problems)",
            bool((share > 0).all()),
        ),
        Claim(
            "SAIL's J has stationary points that are no maxima: no PL constant",
            f"{below.mean():.0%} of exact ascents end below J*; smallest PL ratio found "
            f"{_range(free)}",
            bool((below > 0).all()) and bool((free < ZERO).all()),
        ),
        Claim(
            "SAIL-RevKL is concave on the ball once gamma is large enough",
            f"from gamma = {gamma:g} on at each of {points} points"
            if anchor is not None
            else f"at gamma = {gamma:g} up to {left:.1%} of a problem's points are not",
            anchor is not None,
        ),
        Claim(
            f"SAIL-RevKL satisfies the PL condition on the ball (gamma = {gamma:g})",
            f"smallest PL ratio found {_range(worst)}; {share_at_maximum.mean():.0%} of exact "
            "ascents end at J_g*",
            bool((worst > ZERO).all()) and bool((share_at_maximum == 1).all()),
        ),
        Claim(
            "The anchor raises the PL constant by orders of magnitude",
            f"worst ratio of the sampled points {_range(sampled_free)} without, "
            f"{_range(sampled)} with it: {factor.min():,.0f} to {factor.max():,.0f} times",
            bool((factor >= 100).all()),
        ),
    ]


def _sampling(sail: Rate, revkl: Rate) -> list[Claim]:
    return [
        Claim(
            f"SAIL-RevKL needs O~(1 / eps) samples (gamma = {revkl.gamma:g})",
            f"suboptimality ~ samples^{_slope(revkl)}",
            revkl.low <= -1 and revkl.high < UNKNOWN_RATE,
        ),
        Claim(
            "SAIL converges more slowly",
            f"suboptimality ~ samples^{_slope(sail)}, at the best of its rates",
            sail.low > revkl.high,
        ),
    ]


def _price(tables: Tables, rates: dict[float, Rate], gamma: float) -> list[Claim]:
    bias = tables["bias"]
    kl = bias.pivot(index="seed", columns="gamma", values="kl").to_numpy()
    lost = _at(bias, gamma, "loss_share")
    best = min((g for g in rates if g > 0), key=lambda g: float(rates[g].loss[-1].mean()))
    return [
        Claim(
            "The price is bias: the larger gamma, the nearer the maximiser is to pi_ref",
            f"gamma = {gamma:g} gives up {lost.median():.0%} of J* - J(pi_ref) "
            f"({lost.min():.0%} to {lost.max():.0%})",
            bool((np.diff(kl, axis=1) <= 0).all()),
        ),
        _better(rates[0.0], rates[gamma], "the gamma that makes it concave"),
        _better(rates[0.0], rates[best], "the best gamma, in hindsight"),
    ]


def _better(sail: Rate, revkl: Rate, which: str) -> Claim:
    """Claim that the anchor reaches a higher J than SAIL with the same number of samples."""
    gain = sail.loss[-1] - revkl.loss[-1]
    low, high = stats.bootstrap_interval([gain], stats.mean, stats.resampling())
    return Claim(
        f"SAIL-RevKL reaches a higher J than SAIL at {which}",
        f"gamma = {revkl.gamma:g}: J differs by {gain.mean():.1e} [{low:.1e}, {high:.1e}] "
        f"after {sail.samples[-1]:,.0f} samples",
        float(low) > 0,
    )


def _at(table: pd.DataFrame, gamma: float, column: str) -> pd.Series:
    """Values of a column for one gamma, one per seed, in order."""
    return table[table["gamma"] == gamma].set_index("seed")[column].sort_index()


def _range(values: pd.Series) -> str:
    return f"{values.min():.1e} to {values.max():.1e}" if values.max() >= ZERO else f"< {ZERO:g}"


def _slope(rate: Rate) -> str:
    return f"{rate.slope:.2f} [{rate.low:.2f}, {rate.high:.2f}]"


def confidence(bias: pd.DataFrame) -> str:
    """Statement on the reliability of J_g*, to which all suboptimalities refer."""
    alone = bias[bias["gap_of_best_two"] > SAME_VALUE]
    if alone.empty:
        return "J_g*: at least two ascents end at it, in every problem and for every gamma"
    gammas = ", ".join(f"{gamma:g}" for gamma in sorted(alone["gamma"].unique()))
    return (
        f"J_g*: one ascent only ends at it in {len(alone)} of {len(bias)} cases (gamma {gammas}; "
        f"the next is {alone['gap_of_best_two'].max():.0e} lower), where it may be higher still"
    )
