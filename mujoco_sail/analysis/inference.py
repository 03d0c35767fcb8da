"""Permutation tests for one or several tasks, and Holm's correction.

Sources: Phipson and Smyth 2010 (doi 10.2202/1544-6115.1585) for p-values from random permutations;
Holm 1979 for the correction.
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import permutation_test

from mujoco_sail.analysis.effect_size import Pair
from mujoco_sail.analysis.stats import ROUNDING, Array

PERMUTATIONS = 9_999  # 10 000 with the observed order
DECIMALS = 12  # of differences of standard scores, so that equal differences compare equal


def permutation_p(scores: ArrayLike, baseline: ArrayLike, generator: np.random.Generator) -> float:
    """Two-sided permutation test of the difference of means.

    Args:
        scores: Scores, shape (seeds,).
        baseline: Scores of the baseline, shape (seeds,).
        generator: Random generator of the permutations if there are too many to enumerate.

    Returns:
        p-value; nan if a sample has fewer than two seeds.
    """
    if min(np.size(scores), np.size(baseline)) < 2:
        return math.nan

    def distance(x: Array, y: Array, axis: int) -> Array:
        return np.asarray(np.abs(x.mean(axis=axis) - y.mean(axis=axis)).round(DECIMALS))

    result = permutation_test(
        _standardised(scores, baseline),
        distance,
        alternative="greater",
        vectorized=True,
        n_resamples=PERMUTATIONS,
        rng=generator,
    )
    return float(result.pvalue)


def stratified_permutation_p(pairs: Sequence[Pair], generator: np.random.Generator) -> float:
    """Two-sided permutation test over tasks, stratified: agents are exchanged within each task.

    The statistic is the mean over tasks of the difference of means, each in units of the standard
    deviation of the combined sample, which permutations do not change. SciPy has no such test.

    Args:
        pairs: Scores of an agent and of the baseline for each task, shapes (seeds,).
        generator: Random generator of the permutations.

    Returns:
        p = (1 + permutations as extreme) / (1 + permutations). Tasks with fewer than two seeds in
        a sample are excluded; nan if none is left.
    """
    usable = [pair for pair in pairs if min(map(np.size, pair)) >= 2]
    if not usable:
        return math.nan
    observed, permuted = 0.0, np.zeros(PERMUTATIONS)
    for pair in usable:
        scores, baseline = _standardised(*pair)
        n = len(scores)
        observed += float(scores.mean() - baseline.mean())
        both = np.tile(np.concatenate([scores, baseline]), (PERMUTATIONS, 1))
        generator.permuted(both, axis=1, out=both)
        permuted += both[:, :n].mean(axis=1) - both[:, n:].mean(axis=1)
    extreme = np.round(np.abs(permuted), DECIMALS) >= np.round(abs(observed), DECIMALS)
    return float(1 + extreme.sum()) / (1 + PERMUTATIONS)


def _standardised(scores: ArrayLike, baseline: ArrayLike) -> tuple[Array, Array]:
    """Standardises both samples by the mean and standard deviation of the combined sample."""
    x, y = np.asarray(scores, dtype=np.float64), np.asarray(baseline, dtype=np.float64)
    both = np.concatenate([x, y])
    deviation = both.std()
    if deviation <= ROUNDING * np.abs(both).max():  # equal up to rounding
        return np.zeros_like(x), np.zeros_like(y)
    return (x - both.mean()) / deviation, (y - both.mean()) / deviation


def holm(p: ArrayLike) -> Array:
    """Holm's correction of the p-values of one family, shape (tests,); nan values are ignored."""
    values = np.asarray(p, dtype=np.float64)
    corrected = np.full(values.shape, np.nan)
    tests = np.flatnonzero(~np.isnan(values))
    order = tests[np.argsort(values[tests], kind="stable")]
    factors = np.arange(len(order), 0, -1)
    corrected[order] = np.minimum(np.maximum.accumulate(factors * values[order]), 1)
    return corrected
