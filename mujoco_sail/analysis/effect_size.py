"""Cohen's d between two agents, its interval, its mean over tasks, and detectable effects.

No function assumes that the returns of the two agents have equal variances.

Sources: Cohen 1988 (section 2.3) for d with two variances; Hedges 1981
(doi 10.3102/10769986006002107) for its correction; Delacre et al. 2021
(doi 10.31234/osf.io/tu6mp) for degrees of freedom and interval; Bonett 2008
(doi 10.1037/1082-989X.13.2.99) for the variance of a mean over tasks.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import brentq
from scipy.special import chdtri, gammaln, nctdtr, ndtri, stdtrit

from mujoco_sail.analysis.stats import LEVEL, ROUNDING, vector

Pair = tuple[ArrayLike, ArrayLike]  # an agent's scores and the baseline's, on one task
# SciPy resolves the noncentral t distribution up to about this value of |t|; beyond it, the normal
# part of t is negligible.
LARGEST_T = 1e3
POWER = 0.8  # power at which an effect counts as detectable
TAIL = (1 - LEVEL) / 2


@dataclass(frozen=True)
class _Sizes:
    """Statistics of two samples, in units of the square root of their mean variance.

    Attributes:
        d: Difference of the means.
        variances: Variances of the samples, with mean 1.
        counts: Numbers of seeds of the samples.
        freedom: Degrees of freedom of the unit, between the smaller n - 1 and n_1 + n_2 - 2.
    """

    d: float
    variances: tuple[float, float]
    counts: tuple[int, int]
    freedom: float

    @property
    def correction(self) -> float:
        """J(m) = Gamma(m / 2) / (sqrt(m / 2) Gamma((m - 1) / 2)) at the degrees of freedom m."""
        half = self.freedom / 2
        return math.exp(gammaln(half) - gammaln(half - 0.5)) / math.sqrt(half)


def cohens_d(scores: ArrayLike, baseline: ArrayLike) -> float:
    """Cohen's d, (mean_1 - mean_2) / sqrt((s_1^2 + s_2^2) / 2), without bias correction.

    If both samples have the same number of seeds, the unit is the pooled standard deviation.

    Args:
        scores: One score per seed, shape (seeds,).
        baseline: Scores of the baseline, shape (its seeds,).

    Returns:
        d; 0 if all scores of both are equal; nan if a sample has fewer than two seeds, or if
        neither sample varies and they differ.

    Raises:
        ValueError: An argument has another shape.
    """
    return _sizes(scores, baseline).d


def hedges_g(scores: ArrayLike, baseline: ArrayLike) -> float:
    """Cohen's d times Hedges' correction, which removes its bias in small samples.

    Arguments, special cases and errors are those of `cohens_d`.
    """
    sizes = _sizes(scores, baseline)
    return sizes.d * sizes.correction


def effect_interval(scores: ArrayLike, baseline: ArrayLike) -> tuple[float, float]:
    """95 % confidence interval of the population's d for normally distributed scores.

    Welch's t = d / sqrt(v_1 / n_1 + v_2 / n_2), with v the variances in units of their mean, is
    approximately noncentral t with m = (s_1^2 + s_2^2)^2 / (s_1^4 / (n_1 - 1) + s_2^4 / (n_2 - 1))
    degrees of freedom. The ends are the noncentralities for which t is the 97.5 % and the 2.5 %
    quantile. If both n and both s are equal, this is exact. Hedges' correction removes a bias of
    the estimate and does not apply to the interval.

    Arguments and errors are those of `cohens_d`.

    Returns:
        Low and high; nan if d is undefined.
    """
    sizes = _sizes(scores, baseline)
    scale = math.sqrt(sum(v / n for v, n in zip(sizes.variances, sizes.counts, strict=True) if n))
    t = sizes.d / scale if scale else math.nan
    if math.isnan(t):
        return math.nan, math.nan
    try:
        low, high = (noncentrality(t, sizes.freedom, p) for p in (1 - TAIL, TAIL))
    except ValueError:  # SciPy's distribution is nan
        return math.nan, math.nan
    return scale * low, scale * high


def pooled_effect(pairs: Sequence[Pair]) -> tuple[float, float, float]:
    """Mean of Hedges' g over tasks, with its 95 % normal interval.

    g = J d has the variance (Bonett 2008), with v and m as in `effect_interval`,

        var g = J^2 (v_1 / (n_1 - 1) + v_2 / (n_2 - 1) + d^2 / (2 m))

    and the mean over K tasks sum_i var g_i / K^2. Tasks have equal weight, as in the scores,
    because weights of 1 / var g would be small if d is large. The interval is for these tasks and
    does not generalise to others.

    Args:
        pairs: Scores of an agent and of the baseline for each task, shapes (seeds,).

    Returns:
        Mean, low and high; nan if d is undefined on any task. For a single task, its g and
        `effect_interval`.
    """
    if len(pairs) == 1:
        return hedges_g(*pairs[0]), *effect_interval(*pairs[0])
    if not pairs:
        return math.nan, math.nan, math.nan
    mean = sum(hedges_g(*pair) for pair in pairs) / len(pairs)
    error = math.sqrt(sum(_variance(*pair) for pair in pairs)) / len(pairs)
    half = float(ndtri(1 - TAIL)) * error
    return mean, mean - half, mean + half


def detectable_effect(counts: Sequence[tuple[int, int]]) -> float:
    """Smallest d that a two-sided test at 5 % detects with a probability of `POWER`.

    It is for equal variances and unpaired samples, and depends only on the numbers of seeds.

    Args:
        counts: Numbers of seeds of an agent and of the baseline for each task; d is the mean over
            the tasks.

    Returns:
        d; nan if a sample has fewer than two seeds.
    """
    if not counts or min(map(min, counts)) < 2:
        return math.nan
    error = math.sqrt(sum(1 / n + 1 / m for n, m in counts)) / len(counts)
    return error * detectable_noncentrality(sum(n + m - 2 for n, m in counts))


def detectable_noncentrality(freedom: float) -> float:
    """Effect in standard errors that is detected with a probability of `POWER`.

    It is for a two-sided t test at 5 %: about 2.8, more for few degrees of freedom. Detection with
    the wrong sign is neglected, since its probability is below 1e-5.
    """
    return noncentrality(float(stdtrit(freedom, 1 - TAIL)), freedom, 1 - POWER)


def noncentrality(t: float, freedom: float, probability: float) -> float:
    """Noncentrality for which P(T <= t) equals the given probability.

    Raises:
        ValueError: SciPy's noncentral t distribution is undefined for these values.
    """
    if abs(t) > LARGEST_T:  # T = noncentrality / (chi / sqrt(freedom))
        above = probability if t > 0 else 1 - probability
        return t * math.sqrt(float(chdtri(freedom, above)) / freedom)

    def excess(noncentrality: float) -> float:
        return float(nctdtr(freedom, noncentrality, t)) - probability

    # P(T <= t) decreases with the noncentrality: widen the bracket until it contains the root.
    below = above = 1.0
    while excess(t - below) < 0:
        below *= 2
    while excess(t + above) > 0:
        above *= 2
    return float(brentq(excess, t - below, t + above))


def _sizes(scores: ArrayLike, baseline: ArrayLike) -> _Sizes:
    x, y = vector(scores, "scores"), vector(baseline, "baseline")
    counts = len(x), len(y)
    if min(counts) < 2:
        return _Sizes(math.nan, (math.nan, math.nan), counts, math.nan)
    # For equal scores, rounding of the mean gives a variance slightly above 0.
    rounding = ROUNDING * max(np.abs(x).max(), np.abs(y).max())
    v, w = float(x.var(ddof=1)), float(y.var(ddof=1))
    difference, unit = float(x.mean() - y.mean()), math.sqrt((v + w) / 2)
    if unit <= rounding:
        d = 0.0 if abs(difference) <= rounding else math.nan
        return _Sizes(d, (1, 1), counts, sum(counts) - 2)
    v, w = 2 * v / (v + w), 2 * w / (v + w)
    freedom = 4 / (v**2 / (len(x) - 1) + w**2 / (len(y) - 1))
    return _Sizes(difference / unit, (v, w), counts, freedom)


def _variance(scores: ArrayLike, baseline: ArrayLike) -> float:
    """Variance of Hedges' g."""
    sizes = _sizes(scores, baseline)
    if math.isnan(sizes.d):
        return math.nan
    of_means = sum(v / (n - 1) for v, n in zip(sizes.variances, sizes.counts, strict=True))
    return sizes.correction**2 * (of_means + sizes.d**2 / (2 * sizes.freedom))
