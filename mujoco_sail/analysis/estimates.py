"""Estimates of differences between two agents, with t intervals and tests.

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
    """Estimate of a mean, of a difference of means or of a mean of these.

    Attributes:
        value: The estimate; nan if there are no seeds.
        error: Standard error; 0 if the values do not vary, nan for fewer than two seeds.
        freedom: Degrees of freedom of the standard error.
    """

    value: float
    error: float
    freedom: float

    @property
    def varies(self) -> bool:
        """Whether the standard error is positive."""
        return self.error > 0

    def interval(self) -> tuple[float, float]:
        """95 % confidence interval; nan if the values do not vary."""
        if not self.varies:
            return UNDEFINED
        half = float(stdtrit(self.freedom, 1 - TAIL)) * self.error
        return self.value - half, self.value + half

    def p(self) -> float:
        """p-value of the two-sided test against 0.

        Without variation it is 1 if all values are 0, nan otherwise.
        """
        if not self.varies:
            return 1.0 if self.error == self.value == 0 else math.nan
        return 2 * float(stdtr(self.freedom, -abs(self.value) / self.error))

    def p_equivalence(self, margin: float) -> float:
        """p-value of equivalence: the larger of two one-sided tests, > -margin and < margin.

        It is below 0.05 if the 90 % interval is between them; nan if the values do not vary.
        """
        if not self.varies:
            return math.nan
        return float(stdtr(self.freedom, (abs(self.value) - margin) / self.error))

    def detectable(self) -> float:
        """Value that the test of `p` detects with 80 % power; nan if the values do not vary."""
        return self.error * detectable_noncentrality(self.freedom) if self.varies else math.nan

    def over(self, unit: float) -> "Estimate":
        """Divides by a unit without uncertainty, which is positive or nan (undefined)."""
        return Estimate(self.value / unit, self.error / unit, self.freedom)


def of_mean(values: Array) -> Estimate:
    """Mean of values, shape (seeds,)."""
    return _mean_of(values, _rounding(values))


def paired(scores: Array, rivals: Array) -> Estimate:
    """Mean of the paired differences of two samples.

    Args:
        scores: Scores, shape (seeds,).
        rivals: Scores of the other agent for the same seeds in the same order, shape (seeds,).
    """
    return _mean_of(scores - rivals, _rounding(scores, rivals))


def unpaired(scores: Array, rivals: Array) -> Estimate:
    """Difference of the means of two samples with unequal variances (Welch).

    Args:
        scores: Scores, shape (seeds,).
        rivals: Scores of the other agent, shape (its seeds,).
    """
    rounding = _rounding(scores, rivals)
    mine, other = _mean_of(scores, rounding), _mean_of(rivals, rounding)
    difference = mine.value - other.value
    return Estimate(_or_zero(difference, rounding), *_together([mine, other]))


def mean(estimates: Sequence[Estimate]) -> Estimate:
    """Mean of one or more independent estimates with equal weights.

    Its standard error is the square root of the sum of squared standard errors, divided by their
    number; estimates without variation add nothing.
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
    """Standard error of a sum or difference of estimates, and its degrees of freedom."""
    variances = [each.error * each.error for each in estimates]
    total = sum(variances)
    if not total > 0:
        return total, math.nan
    # Divided by the total, because squares of large variances would overflow.
    parts = zip(variances, estimates, strict=True)
    return math.sqrt(total), 1 / sum(
        (variance / total) ** 2 / each.freedom for variance, each in parts if variance
    )


def _rounding(*samples: Array) -> float:
    """Bound of the rounding error of numbers computed from samples."""
    return ROUNDING * max((float(np.abs(each).max()) for each in samples if len(each)), default=0.0)


def _or_zero(value: float, rounding: float) -> float:
    return 0.0 if abs(value) <= rounding else value
