"""Cohen's d between two agents, its interval, its mean over tasks, and what a design detects.

No function assumes that the two agents' returns have the same variance.

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
from scipy.special import gammaln, nctdtr, ndtri, stdtrit

from mujoco_sail.analysis.stats import LEVEL, ROUNDING, vector

Pair = tuple[ArrayLike, ArrayLike]  # an agent's scores and the baseline's, on one task
# SciPy resolves the noncentral t distribution up to about this value of |t|.
LARGEST_T = 1e3
POWER = 0.8  # with which a design detects the effects that it is said to detect
TAIL = (1 - LEVEL) / 2


@dataclass(frozen=True)
class _Sizes:
    """Two samples in units of the root of the mean of their variances.

    Attributes:
        d: Difference of the means.
        variances: Of the samples; their mean is 1.
        counts: Seeds of the samples.
        freedom: Degrees of freedom of the unit: between the smaller n - 1 and n_1 + n_2 - 2.
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
    """Difference of the means over sqrt((s_1^2 + s_2^2) / 2), uncorrected.

    With as many seeds in both samples this unit is the pooled standard deviation.

    Args:
        scores: One score per seed, shape (seeds,).
        baseline: Scores of the baseline, shape (its seeds,).

    Returns:
        d; 0 where all scores of both are equal; nan where a sample has fewer than two seeds, or
        where neither sample varies and they differ.

    Raises:
        ValueError: Another shape.
    """
    return _sizes(scores, baseline).d


def hedges_g(scores: ArrayLike, baseline: ArrayLike) -> float:
    """Cohen's d times Hedges' correction, which removes its bias in small samples.

    Arguments, special cases and errors are those of `cohens_d`.
    """
    sizes = _sizes(scores, baseline)
    return sizes.d * sizes.correction


def effect_interval(scores: ArrayLike, baseline: ArrayLike) -> tuple[float, float]:
    """95 % interval of the population's d for normal scores.

    Welch's t = d / sqrt(v_1 / n_1 + v_2 / n_2), with v the variances in units of their mean, is
    nearly noncentral t with m = (s_1^2 + s_2^2)^2 / (s_1^4 / (n_1 - 1) + s_2^4 / (n_2 - 1))
    degrees of freedom. The ends are the noncentralities under which it lies at the 97.5 % and the
    2.5 % quantile. Where both n and both s are equal this is exact. Hedges' correction undoes a
    bias of the estimate and has no part in the interval.

    Arguments and errors are those of `cohens_d`.

    Returns:
        Low and high; nan where d is undefined or so large that SciPy does not resolve it.
    """
    sizes = _sizes(scores, baseline)
    scale = math.sqrt(sum(v / n for v, n in zip(sizes.variances, sizes.counts, strict=True) if n))
    t = sizes.d / scale if scale else math.nan
    if not abs(t) <= LARGEST_T:
        return math.nan, math.nan
    try:
        low, high = (noncentrality(t, sizes.freedom, p) for p in (1 - TAIL, TAIL))
    except ValueError:  # SciPy's distribution is nan there
        return math.nan, math.nan
    return scale * low, scale * high


def pooled_effect(pairs: Sequence[Pair]) -> tuple[float, float, float]:
    """Mean of Hedges' g over tasks, with its 95 % normal interval.

    g = J d has the variance (Bonett 2008), with v and m as in `effect_interval`,

        var g = J^2 (v_1 / (n_1 - 1) + v_2 / (n_2 - 1) + d^2 / (2 m))

    and the mean over K tasks sum_i var g_i / K^2. Tasks weigh the same, as in the scores: weights
    of 1 / var g would be small where d is large. It speaks of these tasks, not of others.

    Args:
        pairs: Per task the scores of an agent and of the baseline, shapes (seeds,).

    Returns:
        The mean, low and high; nan where d is undefined on any task. Of a single task, its own g
        and `effect_interval`.
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
    """The d that a test at 5 %, two-sided, detects with a probability of `POWER`.

    It depends on the numbers of seeds alone: for equal variances, and two samples that are not
    paired.

    Args:
        counts: Per task the seeds of an agent and of the baseline; d is the mean over the tasks.

    Returns:
        It; nan where a sample has fewer than two seeds.
    """
    if not counts or min(map(min, counts)) < 2:
        return math.nan
    error = math.sqrt(sum(1 / n + 1 / m for n, m in counts)) / len(counts)
    return error * detectable_noncentrality(sum(n + m - 2 for n, m in counts))


def detectable_noncentrality(freedom: float) -> float:
    """How many standard errors an effect has that is detected with a probability of `POWER`.

    Of a t test at 5 %, two-sided; about 2.8, more with few degrees of freedom. That the effect is
    detected with the wrong sign is left out: its probability is below 1e-5.
    """
    return noncentrality(float(stdtrit(freedom, 1 - TAIL)), freedom, 1 - POWER)


def noncentrality(t: float, freedom: float, probability: float) -> float:
    """The noncentrality under which P(T <= t) is the given probability.

    Raises:
        ValueError: SciPy's noncentral t distribution is undefined there.
    """

    def excess(noncentrality: float) -> float:
        return float(nctdtr(freedom, noncentrality, t)) - probability

    # P(T <= t) falls with the noncentrality: widen until the root lies between.
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
    # Equal scores have a mean that is off by rounding, hence a variance that is not quite 0.
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
    """Of Hedges' g."""
    sizes = _sizes(scores, baseline)
    if math.isnan(sizes.d):
        return math.nan
    of_means = sum(v / (n - 1) for v, n in zip(sizes.variances, sizes.counts, strict=True))
    return sizes.correction**2 * (of_means + sizes.d**2 / (2 * sizes.freedom))
