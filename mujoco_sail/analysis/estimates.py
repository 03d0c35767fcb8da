"""Differences between two agents as estimates with a t distribution about them.

Sources: Welch 1947 (doi 10.1093/biomet/34.1-2.28) and Satterthwaite 1946 (doi 10.2307/3002019) for
degrees of freedom without equal variances; Schuirmann 1987 (doi 10.1007/BF01068419) for the two
one-sided tests of equivalence.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtr, stdtrit

from mujoco_sail.analysis.effect_size import TAIL, detectable_noncentrality
from mujoco_sail.analysis.stats import ROUNDING, Array

UNDEFINED = math.nan, math.nan


@dataclass(frozen=True)
class Estimate:
    """A mean, or a difference or mean of such.

    Attributes:
        value: The estimate; nan where there are no seeds.
        error: Its standard error; 0 where nothing varied, nan with fewer than two seeds.
        freedom: Degrees of freedom of the standard error.
    """

    value: float
    error: float
    freedom: float

    @property
    def varies(self) -> bool:
        """Whether there is a standard error to compare with."""
        return self.error > 0

    def interval(self) -> tuple[float, float]:
        """The 95 % interval; nan where nothing varied."""
        if not self.varies:
            return UNDEFINED
        half = float(stdtrit(self.freedom, 1 - TAIL)) * self.error
        return self.value - half, self.value + half

    def p(self) -> float:
        """Of the two-sided test against 0; 1 where every seed says 0, nan if another number."""
        if not self.varies:
            return 1.0 if self.error == self.value == 0 else math.nan
        return 2 * float(stdtr(self.freedom, -abs(self.value) / self.error))

    def p_equivalence(self, margin: float) -> float:
        """The larger p of the tests against -margin, from above, and margin, from below.

        Below 0.05 where the 90 % interval lies between them; nan where nothing varied.
        """
        if not self.varies:
            return math.nan
        return float(stdtr(self.freedom, (abs(self.value) - margin) / self.error))

    def detectable(self) -> float:
        """The value that the test of `p` would find with 80 % power; nan where nothing varied."""
        return self.error * detectable_noncentrality(self.freedom) if self.varies else math.nan

    def over(self, unit: float) -> "Estimate":
        """In another unit, taken as known; above 0, or nan where there is none."""
        return Estimate(self.value / unit, self.error / unit, self.freedom)


def paired(scores: Array, rivals: Array) -> Estimate:
    """Mean of the differences of two samples of the same seeds.

    Args:
        scores: Shape (seeds,).
        rivals: Shape (seeds,); the same seeds in the same order.
    """
    return _mean_of(scores - rivals, _rounding(scores, rivals))


def unpaired(scores: Array, rivals: Array) -> Estimate:
    """Welch's difference of the means of two samples, which may have unequal variances.

    Args:
        scores: Shape (seeds,).
        rivals: Shape (its seeds,).
    """
    rounding = _rounding(scores, rivals)
    mine, other = _mean_of(scores, rounding), _mean_of(rivals, rounding)
    difference = mine.value - other.value
    return Estimate(_or_zero(difference, rounding), *_together([mine, other]))


def mean(estimates: Sequence[Estimate]) -> Estimate:
    """Mean of independent estimates, one at least, all with the same weight.

    Its standard error is the root of the sum of the squared ones over their number; those that did
    not vary add nothing to it.
    """
    error, freedom = _together(estimates)
    count = len(estimates)
    return Estimate(sum(each.value for each in estimates) / count, error / count, freedom)


def _mean_of(sample: Array, rounding: float) -> Estimate:
    count = len(sample)
    if count < 2:
        return Estimate(float(sample[0]) if count else math.nan, math.nan, math.nan)
    deviation = _or_zero(float(sample.std(ddof=1)), rounding)
    return Estimate(
        _or_zero(float(sample.mean()), rounding), deviation / math.sqrt(count), count - 1
    )


def _together(estimates: Sequence[Estimate]) -> tuple[float, float]:
    """Standard error of a sum or difference, and its degrees of freedom."""
    variances = [each.error * each.error for each in estimates]
    total = sum(variances)
    if not total > 0:
        return total, math.nan
    # In shares of the total: the squares of large variances would overflow.
    parts = zip(variances, estimates, strict=True)
    return math.sqrt(total), 1 / sum(
        (variance / total) ** 2 / each.freedom for variance, each in parts if variance
    )


def _rounding(*samples: Array) -> float:
    """Below it a number that is computed from these is 0 but for rounding."""
    return ROUNDING * max((float(np.abs(each).max()) for each in samples if len(each)), default=0.0)


def _or_zero(value: float, rounding: float) -> float:
    return 0.0 if abs(value) <= rounding else value
