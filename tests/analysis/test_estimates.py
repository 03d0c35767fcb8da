"""Paired and unpaired differences, compared with SciPy, and their means."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats as scipy_stats

from mujoco_sail.analysis import estimates
from mujoco_sail.analysis.estimates import Estimate

X, Y = np.array([3.0, 5, 4, 9, 7]), np.array([2.0, 6, 1, 4, 4])


def arms(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    draws = np.random.default_rng(seed)
    return draws.normal(1, 3, count), draws.normal(0, 1, count + 4)


def test_a_paired_difference_equals_that_computed_by_hand() -> None:
    # Differences 1, -1, 3, 5, 3: mean 11 / 5, sum of squared deviations 20.8 over 4.
    found = estimates.paired(X, Y)
    assert found.value == pytest.approx(2.2)
    assert found.error == pytest.approx(math.sqrt(20.8 / 4 / 5))
    assert found.freedom == 4


def test_paired_p_and_interval_are_scipys() -> None:
    expected = scipy_stats.ttest_rel(X, Y)
    found = estimates.paired(X, Y)
    assert found.p() == pytest.approx(expected.pvalue, rel=1e-12)
    assert found.interval() == pytest.approx([*expected.confidence_interval()], rel=1e-12)


def test_unpaired_p_and_interval_are_scipys_of_welch() -> None:
    x, y = arms(7)
    expected = scipy_stats.ttest_ind(x, y, equal_var=False)
    found = estimates.unpaired(x, y)
    assert found.p() == pytest.approx(expected.pvalue, rel=1e-12)
    assert found.interval() == pytest.approx([*expected.confidence_interval()], rel=1e-12)


@pytest.mark.parametrize("margin", [0.5, 3, 8])
def test_equivalence_is_the_larger_of_two_one_sided_tests(margin: float) -> None:
    above = scipy_stats.ttest_1samp(X - Y, -margin, alternative="greater").pvalue
    below = scipy_stats.ttest_1samp(X - Y, margin, alternative="less").pvalue
    for one, other in ((X, Y), (Y, X)):
        p = estimates.paired(one, other).p_equivalence(margin)
        assert p == pytest.approx(max(above, below), rel=1e-10)


def test_a_detectable_difference_is_detected_in_80_percent_of_experiments() -> None:
    found = estimates.paired(X, Y).detectable() / estimates.paired(X, Y).error
    draws = np.random.default_rng(1).normal(found / math.sqrt(5), size=(5, 4000))
    assert (scipy_stats.ttest_1samp(draws, 0).pvalue < 0.05).mean() == pytest.approx(0.8, abs=0.02)


# --- means ---


def test_a_mean_of_estimates_equals_that_computed_by_hand() -> None:
    # Error sqrt(9 + 16) / 2; 625 / (81 / 3 + 256 / 8) degrees of freedom.
    found = estimates.mean([Estimate(1, 3, 3), Estimate(4, 4, 8)])
    assert (found.value, found.error) == (2.5, 2.5)
    assert found.freedom == pytest.approx(625 / 59)
    assert estimates.mean([Estimate(1, 3, 3)]) == Estimate(1, 3, 3)


def test_environments_have_equal_weight_for_any_numbers_of_seeds() -> None:
    few, many = estimates.unpaired(*arms(3)), estimates.unpaired(*arms(40, 1))
    assert estimates.mean([few, many]).value == (few.value + many.value) / 2


def test_the_interval_of_a_mean_covers_in_95_percent_of_experiments() -> None:
    draws, covered = np.random.default_rng(2), 0
    for _ in range(2000):
        parts = [estimates.unpaired(draws.normal(0, s, 4), draws.normal(0, 1, 9)) for s in (1, 5)]
        low, high = estimates.mean(parts).interval()
        covered += low < 0 < high
    assert covered / 2000 == pytest.approx(0.95, abs=0.015)


def test_another_unit_changes_no_p() -> None:
    found = estimates.paired(X, Y)
    scaled = found.over(4)
    assert (scaled.value, scaled.p()) == (pytest.approx(0.55), pytest.approx(found.p()))
    assert math.isnan(found.over(math.nan).p())


# --- nothing varies ---


def test_equal_samples_differ_by_0_with_a_p_of_1_and_no_interval() -> None:
    constant = np.array([0.1, 0.1, 0.1])
    for make in (estimates.paired, estimates.unpaired):
        found = make(constant, constant)
        assert (found.value, found.error, found.p()) == (0, 0, 1)
        assert np.isnan([*found.interval(), found.p_equivalence(1), found.detectable()]).all()


def test_equal_nonzero_differences_have_no_p() -> None:
    found = estimates.paired(Y + 0.1, Y)  # equal up to rounding
    assert (found.value, found.error) == (pytest.approx(0.1), 0)
    assert np.isnan([found.p(), *found.interval(), found.p_equivalence(1)]).all()


def test_an_environment_that_does_not_vary_counts_in_the_mean_and_adds_no_error() -> None:
    varies = estimates.paired(X, Y)
    found = estimates.mean([varies, estimates.paired(Y - 3, Y)])
    assert found.value == pytest.approx((2.2 - 3) / 2)
    assert found.error == pytest.approx(varies.error / 2)
    assert found.freedom == pytest.approx(4)


def test_one_seed_has_a_difference_and_no_seed_has_none() -> None:
    found = estimates.paired(X[:1], Y[:1])
    assert found.value == 1
    assert np.isnan([found.p(), *found.interval(), found.detectable()]).all()
    assert math.isnan(estimates.paired(X[:0], Y[:0]).value)
    assert math.isnan(estimates.mean([estimates.paired(X, Y), found]).p())


def test_a_mean_is_that_of_one_sample() -> None:
    expected = scipy_stats.ttest_1samp(X, 0)
    found = estimates.of_mean(X)
    assert found.value == X.mean()
    assert found.p() == pytest.approx(expected.pvalue, rel=1e-12)
    assert found.interval() == pytest.approx([*expected.confidence_interval()], rel=1e-12)
    assert estimates.of_mean(X - X) == Estimate(0, 0, 4)
    assert math.isnan(estimates.of_mean(X[:0]).value)
