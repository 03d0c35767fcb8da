"""Permutation tests and Holm's correction, compared with hand computations."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import combinations, product

import numpy as np
import pytest

from mujoco_sail.analysis import inference

Pairs = list[tuple[Sequence[float], Sequence[float]]]


def generator() -> np.random.Generator:
    return np.random.default_rng(0)


def differences(scores: Sequence[float], baseline: Sequence[float]) -> list[float]:
    """Differences of the means for all permutations, the observed one first."""
    both, n = [*scores, *baseline], len(scores)
    places = range(len(both))
    return [
        np.mean([both[i] for i in chosen]) - np.mean([both[i] for i in places if i not in chosen])
        for chosen in combinations(places, n)
    ]


# --- permutations ---


@pytest.mark.parametrize(
    ("scores", "baseline"),
    [
        ([4, 5, 6], [1, 2, 3]),
        ([0.1, 0.7, 0.2], [0.3, 0.1, 0.1]),  # ties, and sums that differ by rounding only
        ([1000.1, 1000.3, 1000.2, 1000.4], [1000.1, 1000.2]),
        ([1, 2], [7, 8, 9, 10, 3]),
    ],
)
def test_permutation_p_equals_full_enumeration(scores: list[float], baseline: list[float]) -> None:
    observed, *others = np.abs(np.round(differences(scores, baseline), 9))
    expected = np.mean(np.array([observed, *others]) >= observed)
    assert inference.permutation_p(scores, baseline, generator()) == pytest.approx(expected)


def test_permutation_p_of_three_above_three_is_a_tenth() -> None:
    assert inference.permutation_p([4, 5, 6], [1, 2, 3], generator()) == pytest.approx(2 / 20)
    assert inference.permutation_p([1, 2, 3], [4, 5, 6], generator()) == pytest.approx(2 / 20)


def test_permutation_p_of_equal_scores_is_one_and_of_one_seed_undefined() -> None:
    assert inference.permutation_p([2, 2], [2, 2, 2], generator()) == 1
    assert math.isnan(inference.permutation_p([2], [1, 3], generator()))


@pytest.mark.parametrize(
    "pairs",
    [
        [([3, 4, 5], [1, 2, 3.5]), ([70, 20, 50], [10, 60, 40])],
        [([3, 4, 5], [1, 2, 3.5]), ([10, 60, 40], [70, 20, 50])],  # effects that disagree
        [([0, 1, 2], [0.5, 1.5]), ([1000, 1003], [1001, 1002, 999])],
    ],
)
def test_stratified_p_equals_full_enumeration_within_tasks(pairs: Pairs) -> None:
    units = [np.std([*scores, *baseline]) for scores, baseline in pairs]
    null = [
        sum(differences) / len(pairs)
        for differences in product(
            *(np.divide(differences(*pair), unit) for pair, unit in zip(pairs, units, strict=True))
        )
    ]
    expected = np.mean(np.abs(np.round(null, 9)) >= abs(round(null[0], 9)))
    error = math.sqrt(expected * (1 - expected) / inference.PERMUTATIONS)
    p = inference.stratified_permutation_p(pairs, generator())
    assert p == pytest.approx(expected, abs=4 * error)


def test_stratified_p_is_never_zero_and_is_one_without_variation() -> None:
    far: Pairs = [(list(range(100, 110)), list(range(10)))] * 3
    assert inference.stratified_permutation_p(far, generator()) == pytest.approx(1e-4)
    assert inference.stratified_permutation_p([([1, 1], [1, 1])], generator()) == 1
    assert math.isnan(inference.stratified_permutation_p([([1], [1, 1])], generator()))


# --- Holm ---


def test_holm_equals_the_values_computed_by_hand() -> None:
    # Sorted: 4 x 0.005, 3 x 0.01, 2 x 0.03, then 0.04, which may not be below the one before.
    np.testing.assert_allclose(inference.holm([0.01, 0.04, 0.03, 0.005]), [0.03, 0.06, 0.06, 0.02])


def test_holm_never_exceeds_one_and_ignores_nan() -> None:
    np.testing.assert_allclose(inference.holm([0.4, math.nan, 0.6]), [0.8, math.nan, 0.8])
    np.testing.assert_allclose(inference.holm([0.7, 0.9]), [1, 1])
    assert len(inference.holm([])) == 0
