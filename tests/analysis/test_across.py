"""Statistics across environments."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from helpers.results import record, records

from mujoco_sail.analysis import across, effect_size, inference
from mujoco_sail.results.read import RunRecord
from mujoco_sail.system.errors import UserError

# Means of random and sac: 15 and 115 in the first environment, -2 and 3 in the second.
ANCHORS = {
    ("ant", "random"): [10, 20],
    ("ant", "sac"): [95, 135],
    ("hopper", "random"): [-3, -1],
    ("hopper", "sac"): [2, 4],
}


def scored(**arms: list[float]) -> pd.DataFrame:
    """Scores by environment and agent, named "environment__agent"."""
    return pd.DataFrame(
        [
            (*name.split("__"), seed, score)
            for name, arm in arms.items()
            for seed, score in enumerate(arm)
        ],
        columns=["environment", "agent", "seed", "score"],
    )


# --- normalised scores ---


def test_scores_equal_those_computed_by_hand() -> None:
    runs = records(ANCHORS | {("ant", "sail"): [40, 215], ("hopper", "sail"): [0.5, -7]})
    # The final return is the mean of the last two of twenty.
    runs.append(record("hopper", "pebble", 4, [99] * 18 + [0, 1]))
    frame = across.normalised_scores(runs).set_index(["environment", "agent", "seed"])
    scores = frame["score"].sort_index()
    assert scores["ant", "sail"].to_list() == [0.25, 2]
    assert scores["hopper", "sail"].to_list() == [0.5, -1]
    assert scores["hopper", "pebble", 4] == 0.5
    means = scores.groupby(["environment", "agent"]).mean()
    assert means["ant", "random"] == means["hopper", "random"] == 0
    assert means["ant", "sac"] == means["hopper", "sac"] == 1


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({("ant", "random"): []}, "ant: no finished run of random"),
        ({("hopper", "sac"): []}, "hopper: no finished run of sac"),
        ({("hopper", "sac"): [-5, 1]}, "hopper: the mean final return of sac, -2, is not above"),
        ({("ant", "sac"): [1, 2]}, "is not above that of random, 15"),
    ],
)
def test_scores_without_random_or_sac_are_an_error(
    change: dict[tuple[str, str], list[float]], said: str
) -> None:
    runs = records(ANCHORS | {("ant", "sail"): [1], ("hopper", "sail"): [1]} | change)
    with pytest.raises(UserError, match=said) as error:
        across.normalised_scores(runs)
    assert len(str(error.value).splitlines()) <= 2


def test_only_complete_runs_are_used() -> None:
    runs = records(ANCHORS)
    odd = [replace(runs[0], seed=7, status=status) for status in ("failed", "running")]
    elsewhere = replace(runs[0], env="walker", status="running")
    assert len(across.normalised_scores([*runs, *odd, elsewhere])) == len(runs)


# --- effects ---


def random_arms(**shifts: float) -> list[RunRecord]:
    """Twelve normally distributed seeds per agent in two environments, with shifted means."""
    generator = np.random.default_rng(3)
    return records(
        ANCHORS
        | {
            (env, agent): list(generator.normal(10 * shift, 10, 12))
            for env in ("ant", "hopper")
            for agent, shift in {"pebble": 0, **shifts}.items()
        }
    )


def test_effects_are_those_of_each_environment_and_pooled() -> None:
    x, y = {"ant": [3, 4, 5], "hopper": [1, 3]}, {"ant": [1, 2, 3], "hopper": [3, 1]}
    arms = {(env, "sail"): x[env] for env in x} | {(env, "pebble"): y[env] for env in y}
    frame = across.effects(records(arms), "pebble").set_index(["environment", "agent"])
    assert frame.index.to_list() == [("ant", "sail"), ("hopper", "sail"), ("pooled", "sail")]
    ant, together = frame.loc["ant", "sail"], frame.loc["pooled", "sail"]
    assert ant["d"] == pytest.approx(2 * math.sqrt(2 / math.pi))
    assert (ant["d_low"], ant["d_high"]) == effect_size.effect_interval(x["ant"], y["ant"])
    assert ant["p"] == pytest.approx(4 / 20)  # 3, 4, 5 with either 3, and both mirrored
    assert together["d"] == pytest.approx(math.sqrt(2 / math.pi))
    assert frame["seeds"].to_list() == [3, 2, 5]


def test_holm_corrects_single_environments_and_pooled_rows_separately() -> None:
    frame = across.effects(random_arms(sail=1, sail_revkl=0.5), "pebble")
    together = frame["environment"] == across.POOLED
    assert (together.sum(), (~together).sum()) == (4, 8)  # random and sac, too
    for family in (frame[together], frame[~together]):
        np.testing.assert_array_equal(family["p_holm"], inference.holm(family["p"]))


@pytest.mark.parametrize(
    "sail", [[1], [0, 0, 0], []], ids=["one seed", "constants that differ", "no runs"]
)
def test_a_pooled_effect_is_over_all_environments_or_undefined(sail: list[float]) -> None:
    arms = {("ant", "pebble"): [1, 2, 4], ("ant", "sail"): [2, 3, 9]}
    arms |= {("hopper", "pebble"): [1, 1, 1], ("hopper", "sail"): sail}
    together = across.effects(records(arms), "pebble").set_index("environment").loc["pooled"]
    assert together[["d", "p", "p_holm"]].isna().all() == bool(sail)
    assert together["seeds"] == 3 + len(sail)


def test_an_agent_with_too_few_seeds_has_no_effect() -> None:
    arms = {("ant", "pebble"): [1, 2], ("ant", "sail"): [2]}
    frame = across.effects(records(arms), "pebble")
    assert frame[["d", "d_low", "d_high", "p", "p_holm"]].isna().all(axis=None)
    assert across.effects(records(arms), "none").empty


@pytest.mark.parametrize(
    "change",
    [
        {"env": {"protocol": "paper"}},
        {"env": {"teacher": "noisy"}},
        {"env": {"oracle": {"beta": 3.0}}},
        {"agent": {"lambda": 10.0}},
        {"versions": {"mujoco_sail": "9.9"}},
    ],
    ids=lambda change: next(iter(change)),
)
def test_environments_with_different_protocol_or_agent_settings_are_not_pooled(
    change: dict[str, Any],
) -> None:
    (scope,) = change
    runs = random_arms(sail=1)
    table = runs[0].table | {scope: {**runs[0].table[scope], **change[scope]}}
    odd = [replace(run, table=table) if run.env == "ant" else run for run in runs]
    for pool in (lambda: across.effects(odd, "pebble"), lambda: across.normalised_scores(odd)):
        with pytest.raises(UserError, match=f"differ in {scope}.*:\n.*never pooled"):
            pool()


def test_environments_may_differ_in_their_sizes_labels_and_simulator() -> None:
    runs = random_arms(sail=1)
    sizes = {"labels": 500, "backend": "envpool", "session_every": 7}
    table = runs[0].table | {"env": {**runs[0].table["env"], **sizes}}
    mixed = [replace(run, table=table) if run.env == "ant" else run for run in runs]
    pd.testing.assert_frame_equal(across.effects(mixed, "pebble"), across.effects(runs, "pebble"))


# --- pooled scores ---


def test_environments_have_equal_weight_whatever_their_seeds() -> None:
    few = scored(a__sail=[0, 0.2, 0.4, 0.6], b__sail=[1, 2], a__pebble=[0.1], b__pebble=[3])
    many = scored(a__sail=[0, 0.2, 0.4, 0.6] * 5, b__sail=[1, 2], a__pebble=[0.1], b__pebble=[3])
    rows = [
        across.pooled(scores, "pebble").set_index("agent").loc["sail"] for scores in (few, many)
    ]
    for row in rows:
        assert row["iqm"] == pytest.approx((0.4 + 0.6 + 2 * 1) / 4)
        assert row["mean"] == pytest.approx((0.3 + 1.5) / 2)
        assert row["improvement"] == pytest.approx((3 / 4 + 0) / 2)


def test_the_bootstrap_draws_seeds_within_environments_only() -> None:
    # Values do not vary within an environment, so resamples are equal.
    frame = across.pooled(scored(a__sail=[0] * 9, b__sail=[1] * 3, a__x=[2] * 3), "x")
    row = frame.set_index("agent").loc["sail"]
    assert row["iqm"] == row["iqm_low"] == row["iqm_high"] == 0.5
    assert row["improvement"] == row["improvement_low"] == row["improvement_high"] == 0


def test_rows_are_reproducible_and_independent_of_other_rows() -> None:
    runs = random_arms(sail=1, sail_revkl=0.5)
    fewer = [run for run in runs if run.agent != "sail"]
    for make in (
        lambda runs: across.pooled(across.normalised_scores(runs), "pebble"),
        lambda runs: across.profiles(across.normalised_scores(runs), [0, 0.5]),
        lambda runs: across.effects(runs, "pebble").drop(columns="p_holm"),
    ):
        whole = make(runs)
        pd.testing.assert_frame_equal(whole, make(runs))
        rest = whole[whole["agent"] != "sail"].reset_index(drop=True)
        pd.testing.assert_frame_equal(make(fewer), rest)


def test_the_better_agent_is_better_in_every_number() -> None:
    runs = random_arms(sail=2)
    frame = across.pooled(across.normalised_scores(runs), "pebble").set_index("agent")
    assert frame.loc["sail", "improvement_low"] > 0.5
    assert frame.loc["sail", "iqm_low"] > frame.loc["pebble", "iqm_high"]
    assert (across.effects(runs, "pebble").query("agent == 'sail'")["d_low"] > 0).all()
    assert frame.loc["pebble", ["improvement", "improvement_low"]].isna().all()


def test_profiles_are_shares_above_each_threshold_averaged_over_environments() -> None:
    scores = scored(a__sail=[0, 0.5, 1, 1], b__sail=[0.2, 0.7])
    frame = across.profiles(scores, [-1, 0.5, 0.8, 2])
    assert frame["share"].to_list() == [1, (2 / 4 + 1 / 2) / 2, (2 / 4 + 0) / 2, 0]
    assert frame.loc[[0, 3], ["low", "high"]].to_numpy().tolist() == [[1, 1], [0, 0]]
    inner = frame.loc[[1, 2]]
    assert (inner["low"] < inner["share"]).all()
    assert (inner["share"] < inner["high"]).all()


# --- labels ---


def test_labels_to_reach_are_those_of_the_first_evaluation_above() -> None:
    runs = records({key: arm for key, arm in ANCHORS.items() if key[0] == "ant"})
    used = [10, 20, 30]
    curves = {0: [0, 65, 0], 1: [64.9, 70, 10], 2: [0, 0, 90], 3: [0, 0, 0]}  # half is 65
    runs += [record("ant", "sail", seed, curve, used) for seed, curve in curves.items()]
    rows = across.labels_to_reach(runs).set_index("agent")
    assert rows.loc["sail", ["labels", "reached", "seeds"]].to_list() == [25, 3, 4]
    assert math.isnan(rows.loc["sac", "labels"])
    assert rows.loc[["random", "sac"], "reached"].to_list() == [0, 2]
    # 75 % of the gain is a return of 90, which one of four seeds reaches.
    late = across.labels_to_reach(runs, 0.75).set_index("agent").loc["sail"]
    assert (late["labels"], late["reached"]) == (math.inf, 1)
