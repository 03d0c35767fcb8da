"""Tables of the study of language models, against values computed by hand."""

from __future__ import annotations

from typing import Any

import language_study as study
import pandas as pd
import pytest


def run(kl: list[float], reward: list[float], reference: float = 0.2) -> pd.DataFrame:
    columns = {"kl_from_reference": kl, "episode_return": reward, "success_rate": reward}
    return pd.DataFrame(columns).assign(reference_return=reference)


def test_a_reward_is_read_where_a_path_first_reaches_a_divergence() -> None:
    path = study.path_of(run([1.0, 3.0, 2.0, 4.0], [0.4, 0.6, 0.1, 0.9]))
    assert study.reward_at(path, 0.5) == pytest.approx(0.3)  # half-way from the reference
    assert study.reward_at(path, 2.5) == pytest.approx(0.55)
    assert study.reward_at(path, 3.5) == pytest.approx(0.1 + 0.75 * 0.8)
    assert study.reward_at(path, 0.0) == pytest.approx(0.2)


def test_two_runs_are_compared_at_the_smaller_of_their_largest_divergences() -> None:
    short, long = (study.path_of(run(kl, [0.4, 0.8])) for kl in ([1.0, 2.0], [2.0, 4.0]))
    assert study.at_equal_divergence(short, long) == pytest.approx((0.8, 0.4))


def test_differences_are_paired_by_seed_and_collapses_are_counted() -> None:
    runs: dict[Any, pd.DataFrame] = {}
    for seed, gain in enumerate([0.1, 0.2, 0.3]):
        runs["echo", "online_dpo", seed] = run([1.0], [0.3 + seed / 10])
        runs["echo", "sail_lm", seed] = run([1.0], [0.3 + seed / 10 + gain])
    runs["echo", "sail_lm", 9] = run([1.0], [0.1])  # no partner, below its reference
    (row,) = study.comparisons(runs)
    assert (row["agent"], row["against"], row["seeds"]) == ("sail_lm", "online_dpo", 3)
    assert row["reward"].value == pytest.approx(0.2)
    assert row["reward"].error == pytest.approx(0.1 / 3**0.5)
    stable = study.stability(runs).loc["echo", "sail_lm"]
    assert (stable["seeds"], stable["collapses"], stable["worst"]) == (4, 1, 0.1)
    stable = study.stability(runs, [("echo", "sail_lm", 8)]).loc["echo", "sail_lm"]
    assert (stable["seeds"], stable["collapses"], stable["worst"]) == (5, 2, 0.1)


def test_a_divergence_that_is_not_finite_is_an_error() -> None:
    with pytest.raises(ValueError, match="finite KL"):
        study.path_of(run([1.0, float("nan")], [0.4, 0.8]))


def test_the_study_has_fifteen_comparisons() -> None:
    assert 3 * len(study.COMPARED) == 15
