"""Statistics over seeds: the replicate is the seed, not the episode.

`bootstrap_interval` takes a generator; `mean_interval` uses the fixed seed `RESAMPLING_SEED`.

Sources: Agarwal et al. 2021 (arXiv 2108.13264) for the interquartile mean, the stratified
bootstrap and the probability of improvement.
"""

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import bootstrap

Array = NDArray[np.float64]

LEVEL = 0.95
RESAMPLES = 10_000
# Seed of the resampling, the same for every row of a table, so that rows do not change each other.
RESAMPLING_SEED = 0
FINAL_DIVISOR = 10  # the final return is the mean of the last tenth of the evaluations
# Values whose difference, divided by the largest, is smaller are equal up to rounding.
ROUNDING = 1e-12


class Statistic(Protocol):
    """Protocol of a statistic: a function of samples that reduces their last axis, the seeds."""

    def __call__(self, *samples: Array) -> Array:
        """Reduces samples of shape (..., seeds) to shape (...)."""
        ...


def resampling() -> np.random.Generator:
    """New random generator for one statistic, with the same seed in every call."""
    return np.random.default_rng(RESAMPLING_SEED)


def final_return(returns: ArrayLike) -> float:
    """Mean of the last 10 % of the evaluations, at least of the last one.

    Args:
        returns: Mean return of each evaluation of one run, in order, shape (evaluations,).

    Raises:
        ValueError: The argument has another shape, or there is no evaluation.
    """
    values = vector(returns, "returns", at_least=1)
    return float(values[-max(1, len(values) // FINAL_DIVISOR) :].mean())


def area_under_curve(steps: ArrayLike, returns: ArrayLike) -> float:
    """Area under a learning curve by trapezoids, divided by its length in steps.

    Args:
        steps: Environment steps of the evaluations, increasing, shape (evaluations,).
        returns: Mean return of each evaluation, same shape.

    Raises:
        ValueError: An argument has another shape, there is no evaluation, or steps do not
            increase.
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
    """Interquartile mean over the last axis of all samples together.

    All samples have equal weight, whatever their number of seeds. Seeds at the quartiles count in
    part: for n = 3 the weights are 1/6, 4/6, 1/6. For a single sample with n a multiple of four
    this is `scipy.stats.trim_mean(sample, 0.25)`, which drops whole seeds only and so is the plain
    mean for n = 3.

    Args:
        samples: One array per task, shape (..., seeds of the task).

    Returns:
        Interquartile mean, shape (...).
    """
    sizes = [sample.shape[-1] for sample in samples]
    scores = np.concatenate(samples, axis=-1)
    # Integer weights, so that equal sample sizes give weights of exactly 1.
    unit = math.lcm(*sizes)
    weight = np.repeat([unit // n for n in sizes], sizes)
    quarter = unit * len(sizes) / 4
    order = np.argsort(scores, axis=-1)
    above = np.cumsum(weight[order], axis=-1)  # cumulative weight up to and including each score
    inside = np.minimum(above, 3 * quarter) - np.maximum(above - weight[order], quarter)
    ranked = np.take_along_axis(scores, order, axis=-1)
    return np.asarray((ranked * np.maximum(inside, 0)).sum(axis=-1) / (2 * quarter))


def probability_of_improvement(*samples: Array) -> Array:
    """P(X > Y) + P(X = Y) / 2 for a random seed X of the first sample and Y of the second.

    Args:
        samples: Two arrays, shapes (..., seeds of X) and (..., seeds of Y).

    Returns:
        Probability, shape (...).
    """
    scores, baseline = samples
    sign = np.sign(scores[..., :, None] - baseline[..., None, :])
    return np.asarray((1 + sign.mean(axis=(-2, -1))) / 2)


def bootstrap_interval(
    samples: Sequence[ArrayLike], statistic: Statistic, generator: np.random.Generator
) -> tuple[Array, Array]:
    """95 % percentile interval by the stratified bootstrap: seeds resampled within each sample.

    Several samples (one per task, or one per agent) are resampled independently. Trailing axes
    share the resampled seeds, so that a learning curve is resampled as a whole.

    The interval never exceeds the range of the seeds, so it is too narrow if they are few: for the
    mean of three seeds it is that range, which covers the centre of a symmetric population with
    probability 1 - 2 / 2^3 = 75 %.

    Args:
        samples: Arrays of shape (seeds, ...), trailing axes equal.
        statistic: See `Statistic`.
        generator: Random generator of the resamples.

    Returns:
        Low and high, of the trailing shape; nan if a sample has fewer than two seeds.

    Raises:
        ValueError: There is no sample, a sample has no seeds, or trailing axes differ.
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
        return statistic(*resampled)  # SciPy moves the seeds to the last axis

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


def mean_interval(samples: Sequence[Array]) -> tuple[Array, Array]:
    """95 % percentile bootstrap interval of the mean over samples of their means.

    That of `bootstrap_interval` with a generator of `resampling`, up to rounding, but as products
    of the samples with how often each resample has each seed: many times as fast for curves.

    Args:
        samples: Arrays of shape (seeds, ...), trailing axes equal.

    Returns:
        Low and high, of the trailing shape; nan where a sample has fewer than two seeds.
    """
    trailing = samples[0].shape[1:]
    sizes = tuple(map(len, samples))
    if min(sizes) < 2:
        return np.full(trailing, np.nan), np.full(trailing, np.nan)
    counts = _resamples(sizes, RESAMPLES)
    # One product of all samples: new arrays of this size cost more than the numbers in them.
    weighted = [s.reshape(n, -1) / (n * len(sizes)) for s, n in zip(samples, sizes, strict=True)]
    means = np.concatenate(weighted).T @ counts
    tail = 50 * (1 - LEVEL)
    low, high = np.percentile(means, [tail, 100 - tail], axis=-1, overwrite_input=True)
    return low.reshape(trailing), high.reshape(trailing)


@lru_cache(maxsize=4)
def _resamples(sizes: tuple[int, ...], number: int) -> Array:
    """How often resamples have each seed, (seeds of all samples, number), drawn as SciPy does."""
    generator, batch = resampling(), number // 10
    counts: list[list[Array]] = [[] for _ in sizes]
    for _ in range(0, number, batch):
        for parts, n in zip(counts, sizes, strict=True):
            place = generator.integers(0, n, (batch, n)) + n * np.arange(batch)[:, None]
            found = np.bincount(place.ravel(), minlength=batch * n)
            parts.append(found.reshape(batch, n).T.astype(np.float64))
    return np.concatenate([np.concatenate(parts, axis=1) for parts in counts])


def vector(values: ArrayLike, name: str, at_least: int = 0) -> Array:
    """Converts values to an array of shape (values,) with at least `at_least` values.

    Raises:
        ValueError: Another shape, or too few values; the message has the name.
    """
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or len(array) < at_least:
        raise ValueError(f"{name} has shape {array.shape}; expected one axis, {at_least} or more")
    return array
