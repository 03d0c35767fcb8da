from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from scipy.stats import trim_mean

from mujoco_sail.analysis import stats


def generator() -> np.random.Generator:
    return np.random.default_rng(7)


def interval(sample: np.ndarray, statistic: stats.Statistic = stats.mean) -> tuple:
    return stats.bootstrap_interval([sample], statistic, generator())


# --- one run -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("evaluations", "last"), [(1, 1), (9, 1), (10, 1), (19, 1), (20, 2), (40, 4)]
)
def test_final_return_is_the_mean_of_the_last_tenth_and_of_one_at_least(
    evaluations: int, last: int
) -> None:
    returns = np.arange(evaluations) ** 2
    assert stats.final_return(returns) == pytest.approx(returns[-last:].mean())


def test_area_under_curve_is_the_mean_height_by_trapezoids() -> None:
    # (0 + 10) / 2 over 1 step, (10 + 20) / 2 over 3 steps.
    assert stats.area_under_curve([1, 2, 5], [0, 10, 20]) == pytest.approx((5 + 45) / 4)
    assert stats.area_under_curve([8], [3.5]) == 3.5


# --- interquartile mean ------------------------------------------------------------------------


def test_interquartile_mean_of_three_weighs_a_sixth_four_sixths_a_sixth() -> None:
    scores = np.array([60.0, 0.0, 6.0])
    assert stats.interquartile_mean(scores) == pytest.approx(0 / 6 + 6 * 4 / 6 + 60 / 6)


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        ([7.0], 7.0),
        ([1.0, 2.0], 1.5),
        ([4.0, -90.0, 2.0, 6.0, 80.0], (0.75 * 2 + 4 + 0.75 * 6) / 2.5),
    ],
)
def test_interquartile_mean_of_other_small_samples(scores: list[float], expected: float) -> None:
    assert stats.interquartile_mean(np.array(scores)) == pytest.approx(expected)


def test_interquartile_mean_is_scipys_where_quartiles_fall_between_seeds() -> None:
    scores = generator().normal(size=(5, 12))
    np.testing.assert_allclose(stats.interquartile_mean(scores), trim_mean(scores, 0.25, axis=-1))


def test_interquartile_mean_of_several_tasks_combines_their_seeds() -> None:
    one, other = np.array([0.0, 1.0]), np.array([2.0, 300.0])
    assert stats.interquartile_mean(one, other) == pytest.approx(1.5)


def test_interquartile_mean_gives_tasks_equal_weight() -> None:
    # Weights 1/4, 1/4 of the first task and 1/8 each of the second: the middle half is all of
    # 1.0, then half of what weighs 1/2.
    one, other = np.array([0.0, 1.0]), np.array([2.0, 3.0, 4.0, 5.0])
    assert stats.interquartile_mean(one, other) == pytest.approx((2 * 1 + 2 + 3) / 4)
    assert stats.interquartile_mean(one, np.repeat(other, 3)) == pytest.approx((2 * 1 + 2 + 3) / 4)


# --- bootstrap ---------------------------------------------------------------------------------


def test_interval_of_three_seeds_is_their_range() -> None:
    # The lowest seed thrice has probability 1/27 > 2.5 %.
    low, high = interval(np.array([5.0, 1.0, 2.0]))
    assert (float(low), float(high)) == (1.0, 5.0)


def test_equal_generators_give_equal_intervals_and_others_do_not() -> None:
    sample = generator().normal(size=12)
    other = stats.bootstrap_interval([sample], stats.mean, np.random.default_rng(8))
    assert interval(sample) == interval(sample)
    assert interval(sample) != other


def test_bootstrap_never_mixes_tasks() -> None:
    # Constant within tasks: nothing varies unless seeds are drawn across tasks.
    tasks = [np.zeros(3), np.full(5, 10.0)]
    low, high = stats.bootstrap_interval(tasks, stats.interquartile_mean, generator())
    assert low == high == pytest.approx(5)


def test_bootstrap_draws_learning_curves_as_wholes() -> None:
    # The difference of two points is the same for every seed, hence in every resample.
    level = generator().normal(size=(6, 1))
    low, high = interval(np.hstack([level, level + 3]))
    np.testing.assert_allclose(low[1] - low[0], 3)
    np.testing.assert_allclose(high[1] - high[0], 3)


@pytest.mark.parametrize(("seeds", "least", "most"), [(3, 0.69, 0.80), (20, 0.90, 0.955)])
def test_interval_covers_the_mean_of_a_normal_population_as_often_as_documented(
    seeds: int, least: float, most: float
) -> None:
    # 500 populations at once; the standard error of the coverage is 0.02 and 0.01.
    low, high = interval(generator().normal(size=(seeds, 500)))
    assert least < ((low < 0) & (high > 0)).mean() < most


def test_one_seed_has_no_interval() -> None:
    assert np.isnan(interval(np.array([3.0]))).all()
    assert np.shape(interval(np.ones((1, 4)))) == (2, 4)


# --- against a baseline ------------------------------------------------------------------------


def test_probability_of_improvement_counts_ties_as_halves() -> None:
    # Of four pairs two are won and two tied.
    assert stats.probability_of_improvement(np.array([1, 2]), np.array([1, 1])) == 0.75


# --- shapes ------------------------------------------------------------------------------------

MATRIX = np.ones((3, 2))


@pytest.mark.parametrize(
    "call",
    [
        lambda: stats.final_return(MATRIX),
        lambda: stats.final_return([]),
        lambda: stats.area_under_curve([1, 2], [1, 2, 3]),
        lambda: stats.area_under_curve([2, 2], [1, 1]),
        lambda: stats.bootstrap_interval([], stats.mean, generator()),
        lambda: interval(np.empty(0)),
        lambda: interval(np.array(1.0)),
        lambda: stats.bootstrap_interval(
            [MATRIX, np.ones((3, 1))], stats.probability_of_improvement, generator()
        ),
    ],
)
def test_another_shape_is_an_error(call: Callable[[], object]) -> None:
    with pytest.raises(ValueError, match=r"shape|axes|steps"):
        call()


@pytest.mark.parametrize("shapes", [[(20, 5)], [(3,)], [(4, 2, 3), (9, 2, 3), (2, 2, 3)]])
def test_the_interval_of_curves_is_that_of_the_bootstrap(shapes: list[tuple[int, ...]]) -> None:
    samples = [np.random.default_rng(3).normal(size=shape) for shape in shapes]
    expected = stats.bootstrap_interval(
        samples,
        lambda *drawn: np.asarray(sum(x.mean(axis=-1) for x in drawn) / len(drawn)),
        stats.resampling(),
    )
    for ours, theirs in zip(stats.mean_interval(samples), expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-12, strict=True)


def test_curves_of_one_seed_have_no_interval() -> None:
    low, high = stats.mean_interval([np.ones((1, 4)), np.ones((3, 4))])
    assert (low.shape, high.shape) == ((4,), (4,))
    assert np.isnan([low, high]).all()
