"""Statistics over seeds: the seed is the replicate, never the episode.

Every function takes arrays whose shape is checked, and whoever draws random numbers says with
which generator.

Sources: Agarwal et al. 2021 (arXiv 2108.13264) for the interquartile mean, the stratified
bootstrap and the probability of improvement.
"""

import math
from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import bootstrap

Array = NDArray[np.float64]

LEVEL = 0.95
RESAMPLES = 10_000
# Every row of a table is drawn afresh from this seed: it does not depend on its neighbours.
RESAMPLING_SEED = 0
# Share of the evaluations, counted from the end, that makes up the final return: one in ten.
FINAL_SHARE = 10
# Values that differ by less than this share of the largest are equal but for rounding.
ROUNDING = 1e-12


class Statistic(Protocol):
    """A function of samples that reduces their last axis, the seeds."""

    def __call__(self, *samples: Array) -> Array:
        """Reduces samples of shape (..., seeds) to shape (...)."""
        ...


def resampling() -> np.random.Generator:
    """A generator for one statistic: the same at every call, whatever was computed before."""
    return np.random.default_rng(RESAMPLING_SEED)


def final_return(returns: ArrayLike) -> float:
    """Mean of the last 10 % of the evaluations, and of the last one at least.

    Args:
        returns: Mean return of each evaluation of one run, in order, shape (evaluations,).

    Raises:
        ValueError: Another shape, or no evaluation.
    """
    values = vector(returns, "returns", at_least=1)
    return float(values[-max(1, len(values) // FINAL_SHARE) :].mean())


def area_under_curve(steps: ArrayLike, returns: ArrayLike) -> float:
    """Mean height of a learning curve: its area by trapezoids over its length in steps.

    Args:
        steps: Environment steps of the evaluations, increasing, shape (evaluations,).
        returns: Mean return of each, same shape.

    Raises:
        ValueError: Other shapes, no evaluation, or steps that do not increase.
    """
    x = vector(steps, "steps", at_least=1)
    y = vector(returns, "returns", at_least=1)
    if len(x) != len(y):
        raise ValueError(f"{len(x)} steps for {len(y)} returns")
    if (np.diff(x) <= 0).any():
        raise ValueError("steps must increase")
    if len(x) == 1:
        return float(y[0])
    return float(np.trapezoid(y, x) / (x[-1] - x[0]))


def mean(*samples: Array) -> Array:
    """Mean over the last axis of one sample."""
    (sample,) = samples
    return np.asarray(sample.mean(axis=-1))


def interquartile_mean(*samples: Array) -> Array:
    """Mean of the middle half over the last axis of all samples together.

    Every sample has the same weight, however many seeds it has. The quartiles cut through seeds:
    with n = 3 the weights are 1/6, 4/6, 1/6. Where one sample's n is a multiple of four this is
    `scipy.stats.trim_mean(sample, 0.25)`, which drops whole seeds only and so is the plain mean
    for n = 3.

    Args:
        samples: One array per task, shape (..., seeds of the task).

    Returns:
        Shape (...).
    """
    sizes = [sample.shape[-1] for sample in samples]
    scores = np.concatenate(samples, axis=-1)
    # In whole units, so that equal samples have weights of exactly 1.
    unit = math.lcm(*sizes)
    weight = np.repeat([unit // n for n in sizes], sizes)
    quarter = unit * len(sizes) / 4
    order = np.argsort(scores, axis=-1)
    above = np.cumsum(weight[order], axis=-1)  # weight up to each score, itself included
    inside = np.minimum(above, 3 * quarter) - np.maximum(above - weight[order], quarter)
    ranked = np.take_along_axis(scores, order, axis=-1)
    return np.asarray((ranked * np.maximum(inside, 0)).sum(axis=-1) / (2 * quarter))


def probability_of_improvement(*samples: Array) -> Array:
    """P(X > Y) + P(X = Y) / 2 for a random seed X of the first sample and Y of the second.

    Args:
        samples: Two arrays, shapes (..., seeds of X) and (..., seeds of Y).

    Returns:
        Shape (...).
    """
    scores, baseline = samples
    sign = np.sign(scores[..., :, None] - baseline[..., None, :])
    return np.asarray((1 + sign.mean(axis=(-2, -1))) / 2)


def bootstrap_interval(
    samples: Sequence[ArrayLike], statistic: Statistic, generator: np.random.Generator
) -> tuple[Array, Array]:
    """95 % percentile bootstrap interval, resampling seeds within each sample.

    Several samples (one per task, or one per arm) are resampled independently: the bootstrap is
    stratified. Trailing axes share the resampled seeds: a learning curve is drawn as a whole.

    The interval never leaves the range of the seeds, hence it is too narrow when they are few:
    for the mean of three seeds it is that range, which covers a symmetric population's centre
    with probability 1 - 2 / 2^3 = 75 %.

    Args:
        samples: Arrays of shape (seeds, ...), trailing axes equal.
        statistic: See `Statistic`.
        generator: Draws the resamples.

    Returns:
        Low and high, of the trailing shape; nan where a sample has fewer than two seeds.

    Raises:
        ValueError: No sample, one without seeds, or trailing axes that differ.
    """
    arrays = [np.asarray(sample, dtype=np.float64) for sample in samples]
    if not arrays or any(array.ndim == 0 or len(array) == 0 for array in arrays):
        raise ValueError("expected samples of shape (seeds, ...), each with a seed at least")
    trailing = arrays[0].shape[1:]
    if any(array.shape[1:] != trailing for array in arrays):
        raise ValueError(f"trailing axes differ: {[array.shape for array in arrays]}")
    if any(len(array) < 2 for array in arrays):
        return np.full(trailing, np.nan), np.full(trailing, np.nan)

    def reduce(*resampled: Array, axis: int) -> Array:
        return statistic(*resampled)  # SciPy has put the seeds last

    result = bootstrap(
        [np.moveaxis(array, 0, -1) for array in arrays],
        reduce,
        n_resamples=RESAMPLES,
        batch=RESAMPLES // 10,
        vectorized=True,
        axis=-1,
        confidence_level=LEVEL,
        method="percentile",
        rng=generator,
    )
    low, high = result.confidence_interval
    return np.asarray(low), np.asarray(high)


def vector(values: ArrayLike, name: str, at_least: int = 0) -> Array:
    """The values as an array of shape (values,), `at_least` so many.

    Raises:
        ValueError: Another shape, or fewer; it says the name.
    """
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or len(array) < at_least:
        raise ValueError(f"{name} has shape {array.shape}; expected one axis, {at_least} or more")
    return array
