"""Effect sizes, their intervals and their mean over tasks, compared with hand computations."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.special import ndtr
from scipy.stats import chi, ttest_ind

from mujoco_sail.analysis import effect_size

Pairs = list[tuple[Sequence[float], Sequence[float]]]
# d = 2 with J(4)^2 = 2 / pi, and d = 0 with J(2)^2 = 1 / pi.
TWO: Pairs = [([3, 4, 5], [1, 2, 3]), ([1, 3], [3, 1])]


def generator() -> np.random.Generator:
    return np.random.default_rng(7)


# --- d and its correction ---


def test_d_and_g_of_a_worked_example() -> None:
    # Means 2 and 3, pooled deviation 1; J(4) = Gamma(2) / (sqrt(2) Gamma(3/2)) = sqrt(2 / pi).
    assert effect_size.cohens_d([1, 2, 3], [2, 3, 4]) == pytest.approx(-1, rel=1e-14)
    assert effect_size.hedges_g([1, 2, 3], [2, 3, 4]) == pytest.approx(
        -math.sqrt(2 / math.pi), rel=1e-14
    )


def test_d_is_in_units_of_the_mean_variance_for_any_numbers_of_seeds() -> None:
    # Variances 2 and 8 / 4.5 = 16 / 9, by 1 and 4 degrees of freedom; both weigh the same.
    d = effect_size.cohens_d([1, 3], [0, 2, 0, -2, 0])
    assert d == pytest.approx(2 / math.sqrt((2 + 2) / 2))
    assert effect_size.cohens_d([1, 3], [0, 4, 0, -4, 0]) == pytest.approx(2 / math.sqrt(5))


@pytest.mark.parametrize(
    ("scores", "correction"),
    [([1, 3], 1 / math.sqrt(math.pi)), ([0, 1, 2], math.sqrt(2 / math.pi)), ([4, 4], 0)],
)
def test_correction_has_the_closed_form_of_small_samples(
    scores: list[float], correction: float
) -> None:
    # Equal variances have 2 and 4 degrees of freedom, a constant leaves those of the other, 1:
    # Gamma(1) = Gamma(2) = 1, Gamma(1/2) = sqrt(pi), Gamma(3/2) = sqrt(pi) / 2, 1 / Gamma(0) = 0.
    rivals = [5 + score for score in scores] if scores[0] != scores[1] else [1, 2]
    ratio = effect_size.hedges_g(scores, rivals) / effect_size.cohens_d(scores, rivals)
    assert ratio == pytest.approx(correction, rel=1e-13)


def test_correction_of_many_seeds_is_hedges_approximation() -> None:
    scores, baseline = np.arange(30) + 5.0, np.arange(30)
    ratio = effect_size.hedges_g(scores, baseline) / effect_size.cohens_d(scores, baseline)
    assert ratio == pytest.approx(1 - 3 / (4 * 58 - 1), abs=5e-5)


def test_g_of_ten_seeds_is_unbiased_and_d_is_not() -> None:
    draws = generator().normal([1] * 10 + [0] * 10, size=(8000, 20))
    d = [effect_size.cohens_d(x[:10], x[10:]) for x in draws]
    g = [effect_size.hedges_g(x[:10], x[10:]) for x in draws]
    assert np.mean(d) == pytest.approx(1.044, abs=0.015)  # 1 / J(18)
    assert np.mean(g) == pytest.approx(1, abs=0.02)


# --- the interval ---


@pytest.mark.parametrize(
    ("scores", "baseline"),
    [([1, 2, 3], [2, 3, 4]), ([5, 7], [1, 2, 2.5, 4]), ([101, 102, 103, 104, 99], [1, 2, 8])],
)
def test_ends_of_the_effect_interval_put_t_at_its_quantiles(
    scores: list[float], baseline: list[float]
) -> None:
    n, m = len(scores), len(baseline)
    v, w = np.var(scores, ddof=1), np.var(baseline, ddof=1)
    freedom = (v + w) ** 2 / (v**2 / (n - 1) + w**2 / (m - 1))
    t = ttest_ind(scores, baseline, equal_var=False).statistic
    scale = math.sqrt(v / n + w / m) / math.sqrt((v + w) / 2)

    def below_t(effect: float) -> float:
        # P(T <= t) from the definition: T = (Z + noncentrality) / (chi / sqrt(freedom)).
        def integrand(x: float) -> float:
            return ndtr(t * x / math.sqrt(freedom) - effect / scale) * chi.pdf(x, freedom)

        return quad(integrand, 0, 20, epsabs=1e-12, limit=200)[0]

    low, high = effect_size.effect_interval(scores, baseline)
    assert below_t(low) == pytest.approx(0.975, abs=1e-8)
    assert below_t(high) == pytest.approx(0.025, abs=1e-8)


@pytest.mark.parametrize("deviation", [1, 3])
@pytest.mark.parametrize(("n", "m"), [(4, 3), (5, 15)])
def test_intervals_cover_the_effect_in_95_percent_of_experiments(
    n: int, m: int, deviation: float
) -> None:
    """For a single task and for the mean over two, with equal and unequal variances."""
    draws = generator()
    effect = 0.8 * math.sqrt((deviation**2 + 1) / 2)
    covered = []
    for _ in range(1000):
        pairs = [(draws.normal(effect, deviation, n), draws.normal(0, 1, m)) for _ in range(2)]
        ends = effect_size.effect_interval(*pairs[0]), effect_size.pooled_effect(pairs)[1:]
        covered.append([low < 0.8 < high for low, high in ends])
    assert np.mean(covered, axis=0) == pytest.approx(0.95, abs=0.025)


def test_exchanging_the_agents_changes_the_sign() -> None:
    x, y = [1.0, 4.0, 2.0], [3.0, 9.0]
    low, high = effect_size.effect_interval(x, y)
    assert effect_size.hedges_g(y, x) == -effect_size.hedges_g(x, y)
    assert effect_size.effect_interval(y, x) == pytest.approx((-high, -low))


def test_the_interval_of_a_huge_effect_is_that_of_its_deviation_alone() -> None:
    """Beyond the range of SciPy's distribution; just below it, both agree."""
    baseline = np.array([-1.0, 0.0, 1.0, 2.0, -2.0])
    below, above = (
        np.array(effect_size.effect_interval(baseline + gap, baseline)) / gap
        for gap in (999.9, 1000.1)
    )
    assert below == pytest.approx(above, rel=1e-3)
    # d is the gap in units of the deviation, sqrt(2.5), whose interval is that of chi with 8
    # degrees of freedom.
    ends = chi.ppf([0.025, 0.975], 8) / math.sqrt(8) / math.sqrt(2.5)
    assert above == pytest.approx(ends, rel=1e-9)
    low, high = effect_size.effect_interval(baseline - 2000, baseline)
    assert (low, high) == pytest.approx(tuple(-2000 * ends[::-1]), rel=1e-9)


@pytest.mark.parametrize(
    ("scores", "baseline"),
    [([1], [1, 2, 3]), ([1, 2, 3], [1]), ([], [1, 2]), ([0.1] * 3, [0.3] * 3)],
)
def test_effect_is_undefined_with_one_seed_or_of_two_constants_that_differ(
    scores: list[float], baseline: list[float]
) -> None:
    assert math.isnan(effect_size.hedges_g(scores, baseline))
    assert np.isnan(effect_size.effect_interval(scores, baseline)).all()


def test_equal_constants_have_effect_zero_with_an_interval_by_the_numbers_of_seeds() -> None:
    for constants in ([0.1] * 4, [0.0] * 4):
        assert effect_size.hedges_g(constants, constants) == 0
        # Noncentral t at 0 with 6 degrees of freedom: P(T <= 0) = Phi(-noncentrality).
        end = 1.959964 * math.sqrt(1 / 4 + 1 / 4)
        interval = effect_size.effect_interval(constants, constants)
        assert interval == pytest.approx((-end, end), rel=1e-6)


# --- the pooled effect ---


def test_the_pooled_effect_equals_that_computed_by_hand() -> None:
    # g = 2 sqrt(2 / pi) with variance 2 / pi (1 / 2 + 1 / 2 + 4 / 8); 0 with 1 / pi (1 + 1).
    expected = math.sqrt(2 / math.pi)
    half = 1.959964 * math.sqrt(2 / math.pi * 3 / 2 + 2 / math.pi) / 2
    assert effect_size.pooled_effect(TWO) == pytest.approx(
        (expected, expected - half, expected + half), rel=1e-6
    )


def test_unequal_variances_enter_the_pooled_interval() -> None:
    # Variances 2 and 1 / 2 of 2 and 4 seeds: 8 / 5 and 2 / 5 of their mean, and degrees of freedom
    # 4 / (64 / 25 + 4 / 75) = 75 / 49; d = 0.
    pair = [0, 2], [1 + x for x in (-0.75, 0.75, math.sqrt(0.1875), -math.sqrt(0.1875))]
    half = math.gamma(75 / 98) / math.gamma(26 / 98) / math.sqrt(75 / 98)
    half *= 1.959964 * math.sqrt(2 * (8 / 5 + 2 / 5 / 3)) / 2
    assert effect_size.pooled_effect([pair, pair]) == pytest.approx((0, -half, half), rel=1e-6)


def test_the_pooled_effect_of_one_task_is_its_own_effect() -> None:
    assert effect_size.pooled_effect(TWO[:1])[0] == pytest.approx(effect_size.hedges_g(*TWO[0]))


def test_pooled_effect_changes_sign_with_the_roles() -> None:
    d, low, high = effect_size.pooled_effect(TWO)
    swapped = [(baseline, scores) for scores, baseline in TWO]
    assert effect_size.pooled_effect(swapped) == pytest.approx((-d, -high, -low))
    assert d > 0


@pytest.mark.parametrize("odd", [([1], [2, 3]), ([1, 1], [2, 2])])
def test_the_pooled_effect_is_undefined_if_that_of_any_task_is(
    odd: tuple[Sequence[float], Sequence[float]],
) -> None:
    assert np.isnan(effect_size.pooled_effect([*TWO, odd])).all()
    assert np.isnan(effect_size.pooled_effect([])).all()


def test_a_task_of_equal_constants_counts_as_0_in_the_pooled_effect() -> None:
    mean, low, high = effect_size.pooled_effect([*TWO, ([1, 1], [1, 1])])
    assert mean == pytest.approx(effect_size.pooled_effect(TWO)[0] * 2 / 3)
    assert low < 0 < high


# --- what a design detects ---


@pytest.mark.parametrize(
    ("seeds", "effect"),
    [(26, 0.8), (64, 0.5), (394, 0.2)],  # Cohen 1992, table 2: 80 % power at 5 %
)
def test_detectable_effects_equal_those_in_cohens_table(seeds: int, effect: float) -> None:
    assert effect_size.detectable_effect([(seeds, seeds)]) == pytest.approx(effect, abs=0.01)


def test_more_tasks_detect_less_and_one_seed_detects_nothing() -> None:
    # 2.8 standard errors of the mean over tasks, a little more with few degrees of freedom.
    four = effect_size.detectable_effect([(20, 20)] * 4)
    assert four == pytest.approx(2.80 * math.sqrt(4 / 10) / 4, rel=0.01)
    two = effect_size.detectable_effect([(10, 20)] * 2)
    assert two == pytest.approx(2.80 * math.sqrt(2 * 3 / 20) / 2, rel=0.02)
    assert math.isnan(effect_size.detectable_effect([(20, 20), (1, 20)]))
    assert math.isnan(effect_size.detectable_effect([]))


def test_an_effect_that_is_called_detectable_is_detected_in_80_percent_of_experiments() -> None:
    effect = effect_size.detectable_effect([(6, 9)])
    x = generator().normal(effect, size=(6, 4000))
    y = generator().normal(size=(15, 4000))[6:]
    assert (ttest_ind(x, y).pvalue < 0.05).mean() == pytest.approx(0.8, abs=0.02)


# --- shapes ---

MATRIX = np.ones((3, 2))


@pytest.mark.parametrize(
    "call",
    [
        lambda: effect_size.cohens_d(MATRIX, [1, 2]),
        lambda: effect_size.hedges_g([1, 2], MATRIX),
        lambda: effect_size.effect_interval(3.0, [1, 2]),
    ],
)
def test_another_shape_is_an_error(call: Callable[[], object]) -> None:
    with pytest.raises(ValueError, match="shape"):
        call()
