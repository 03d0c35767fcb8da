"""Paired comparisons with a baseline, on one environment and over several."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from helpers.checkout import ROOT
from helpers.results import record, records
from scipy import stats as scipy_stats

from mujoco_sail.analysis import across, effect_size, inference, paired
from mujoco_sail.results.pooling import collect
from mujoco_sail.system.errors import UserError

MARGIN = 0.1
# Gains of sac on random: 100 in the first environment, 5 in the second.
ANCHORS = {
    ("ant", "random"): [10, 20],
    ("ant", "sac"): [95, 135],
    ("hopper", "random"): [-3, -1],
    ("hopper", "sac"): [2, 4],
}
SAIL = {"ant": [30, 50, 40, 90], "hopper": [2, 3, 0.5, 1]}
PEBBLE = {"ant": [20, 60, 10, 40], "hopper": [1.5, 1, 1, 1]}
ARMS = (
    ANCHORS
    | {(env, "sail"): arm for env, arm in SAIL.items()}
    | {(env, "pebble"): arm for env, arm in PEBBLE.items()}
)
Arms = dict[tuple[str, str], Sequence[float]]


def compare(arms: Arms, baseline: str = "pebble", metric: str = "auc") -> pd.DataFrame:
    frame = paired.compare(records(arms), baseline, MARGIN)
    return frame[frame["metric"] == metric].set_index(["environment", "agent"])


# --- one environment ---


def test_differences_are_paired_by_seed_in_returns_and_as_share_of_the_gain() -> None:
    row = compare(ARMS).loc["ant", "sail"]
    expected = scipy_stats.ttest_rel(SAIL["ant"], PEBBLE["ant"])
    low, high = expected.confidence_interval()
    assert (row["n_pairs"], row["seeds"], row["baseline_seeds"]) == (4, 4, 4)
    assert row["difference"] == 20  # of 10, -10, 30, 50
    assert (row["low"], row["high"]) == pytest.approx((low, high))
    assert row["share"] == pytest.approx(0.20)
    assert (row["share_low"], row["share_high"]) == pytest.approx((low / 100, high / 100))
    assert row["p"] == pytest.approx(expected.pvalue)


def test_seeds_that_only_one_agent_has_are_in_no_pair() -> None:
    runs = [run for run in records(ARMS) if (run.agent, run.seed) != ("sail", 0)]
    runs += [record("ant", "sail", 9, [7.0])]
    frame = paired.by_environment(runs, "pebble", MARGIN)
    row = frame.set_index(["metric", "environment", "agent"]).loc["auc", "ant", "sail"]
    assert (row["n_pairs"], row["seeds"], row["baseline_seeds"]) == (3, 4, 4)
    assert row["difference"] == pytest.approx((-10 + 30 + 50) / 3)
    unpaired = scipy_stats.ttest_ind([50, 40, 90, 7], PEBBLE["ant"], equal_var=False)
    assert row["unpaired_share"] == pytest.approx((187 - 130) / 4 / 100)
    low, high = (end / 100 for end in unpaired.confidence_interval())
    assert (row["unpaired_share_low"], row["unpaired_share_high"]) == pytest.approx((low, high))
    assert row["d"] == effect_size.hedges_g([50, 40, 90, 7], PEBBLE["ant"])


def test_each_metric_has_its_own_gain() -> None:
    curves = {"random": [0, 0, 0], "sac": [0, 40, 100], "pebble": [0, 10, 20]}
    curves |= {"sail": [0, 30, 20], "mrn": [0, 10, 50]}
    runs = [
        record("ant", agent, seed, [x + seed for x in curve])
        for agent, curve in curves.items()
        for seed in range(2)
    ]
    frame = paired.by_environment(runs, "pebble", MARGIN).set_index(["metric", "agent"])
    assert frame.loc[("auc", "sail"), "share"] == pytest.approx(10 / 45)  # heights 20, 10; 45, 0
    assert frame.loc[("final", "sail"), "share"] == 0
    assert frame.loc[("final", "mrn"), "share"] == pytest.approx(30 / 100)
    assert frame.loc[("final", "mrn"), "difference"] == pytest.approx(30)


# --- several environments ---


def test_the_pooled_difference_equals_an_independent_computation() -> None:
    row = compare(ARMS).loc["pooled", "sail"]
    shares = [np.subtract(SAIL[e], PEBBLE[e]) / gain for e, gain in (("ant", 100), ("hopper", 5))]
    variances = [share.var(ddof=1) / 4 for share in shares]
    error = math.sqrt(sum(variances)) / 2
    freedom = sum(variances) ** 2 / sum(v**2 / 3 for v in variances)
    value = (shares[0].mean() + shares[1].mean()) / 2
    t = scipy_stats.t(freedom, value, error)
    assert (row["n_pairs"], row["environments"]) == (8, 2)
    assert row["share"] == pytest.approx(value)
    assert (row["share_low"], row["share_high"]) == pytest.approx(t.interval(0.95))
    assert row["p"] == pytest.approx(2 * scipy_stats.t.sf(value / error, freedom))
    assert row["p_equivalence"] == pytest.approx(t.cdf(2 * value - MARGIN))
    nct = scipy_stats.nct(freedom, row["detectable_share"] / error)
    assert nct.sf(scipy_stats.t.ppf(0.975, freedom)) == pytest.approx(0.8)
    pairs = [(SAIL[env], PEBBLE[env]) for env in SAIL]
    assert (row["d"], row["d_low"], row["d_high"]) == effect_size.pooled_effect(pairs)
    assert math.isnan(row["difference"])  # returns of two environments have no common unit


def test_the_pooled_row_of_one_environment_equals_its_own_row() -> None:
    arms = {key: arm for key, arm in ARMS.items() if key[0] == "ant"}
    frame = compare(arms).drop(columns=["note"])
    own, pooled = (frame.loc[env].to_numpy()[:, 2:].astype(float) for env in ("ant", "pooled"))
    np.testing.assert_array_equal(own, pooled)


def test_an_agent_that_lacks_an_environment_is_compared_on_those_it_has() -> None:
    arms: Arms = ARMS | {("ant", "mrn"): [30, 55, 40, 85]}
    row = compare(arms).loc["pooled", "mrn"]
    assert (row["environments"], row["n_pairs"], row["share"]) == (1, 4, pytest.approx(0.2))


def test_any_two_agents_can_be_compared_and_exchanging_them_changes_the_sign() -> None:
    one, other = compare(ARMS), compare(ARMS, "sail")
    for env in ("ant", "hopper", "pooled"):
        mine, theirs = one.loc[env, "sail"], other.loc[env, "pebble"]
        assert mine["share"] == pytest.approx(-theirs["share"])
        assert mine["d_low"] == pytest.approx(-theirs["d_high"])
        for column in ("p", "p_equivalence", "detectable_share", "detectable_d"):
            assert mine[column] == pytest.approx(theirs[column])


def test_holm_corrects_metrics_single_environments_and_pooled_rows_separately() -> None:
    frame = paired.compare(records(ARMS | {("ant", "mrn"): [31, 55, 40, 85]}), "pebble", MARGIN)
    families = frame.groupby([frame["environment"] == across.POOLED, "metric"])
    assert sorted(len(rows) for _, rows in families) == [4, 4, 7, 7]
    for _, rows in families:
        np.testing.assert_array_equal(rows["p_holm"], inference.holm(rows["p"]))


def test_environments_with_different_settings_are_compared_separately_and_not_pooled() -> None:
    runs = records(ARMS)
    table = runs[0].table | {"env": {**runs[0].table["env"], "teacher": "noisy"}}
    odd = [replace(run, table=table) if run.env == "ant" else run for run in runs]
    assert len(paired.by_environment(odd, "pebble", MARGIN))
    with pytest.raises(UserError, match="never pooled"):
        paired.compare(odd, "pebble", MARGIN)


def test_without_two_agents_the_table_is_empty_and_has_its_columns() -> None:
    for runs in ([], records({("ant", "sail"): [1, 2]})):
        frame = paired.compare(runs, "pebble", MARGIN)
        assert frame.empty
        assert tuple(frame) == paired.COLUMNS
        assert {*paired.wide(frame)} == {"environment", "agent", *paired.wide_columns()}


# --- undefined numbers ---


@pytest.mark.parametrize("lacks", ["random", "sac", "gain"])
def test_without_a_gain_of_sac_only_the_shares_are_undefined(lacks: str) -> None:
    change: Arms = {("hopper", lacks): []} if lacks != "gain" else {("hopper", "sac"): [-5, 1]}
    frame = compare(ARMS | change)
    hopper, pooled = frame.loc["hopper", "sail"], frame.loc["pooled", "sail"]
    shares = ["share", "share_low", "unpaired_share", "p_equivalence", "detectable_share"]
    assert hopper[shares].isna().all()
    assert pooled[[*shares, "p"]].isna().all()
    assert hopper[["difference", "low", "high", "d", "p", "detectable_d"]].notna().all()
    assert pooled[["d", "d_low", "detectable_d"]].notna().all()
    assert frame.loc[("ant", "sail"), shares].notna().all()


@pytest.mark.parametrize(
    ("sail", "pebble", "note"),
    [
        ([7, 7, 7], [7, 7, 7], "on hopper all paired differences are 0"),
        (
            [4, 4, 4],
            [7, 7, 7],
            "on hopper neither agent's returns vary: all differences are negative",
        ),
        ([4, 5, 6], [7, 8, 9], "on hopper all paired differences are equal and negative"),
        ([4], [7, 8, 9], "on hopper the two have one common seed"),
    ],
)
def test_an_environment_without_variation_is_in_the_mean_and_is_named(
    sail: list[float], pebble: list[float], note: str
) -> None:
    frame = compare(ARMS | {("hopper", "sail"): sail, ("hopper", "pebble"): pebble})
    hopper, pooled = frame.loc["hopper", "sail"], frame.loc["pooled", "sail"]
    assert hopper["note"] == pooled["note"] == note
    assert frame.loc[("ant", "sail"), "note"] == ""
    assert pooled["share"] == pytest.approx((0.2 + (sail[0] - pebble[0]) / 5) / 2)
    assert hopper["p"] == 1 if sail == pebble else math.isnan(hopper["p"])
    assert math.isnan(pooled["p"]) == (len(sail) == 1)
    undefined = len(sail) == 1 or (sail != pebble and len({*sail}) == 1)
    assert pooled[["d", "d_low"]].isna().all() == undefined
    if sail == pebble:
        assert hopper["d"] == 0
        assert pooled["d"] == pytest.approx(frame.loc[("ant", "sail"), "d"] / 2)


# --- the published study ---


def test_the_published_study_detects_what_its_docs_state() -> None:
    runs = collect(ROOT / "results/study")
    frame = paired.compare(runs, "pebble", MARGIN)
    pooled = frame[frame["environment"] == across.POOLED].set_index(["metric", "agent"])
    assert pooled.loc[("auc", "sail"), "detectable_d"] == pytest.approx(0.45, abs=0.005)
    assert pooled.loc[("auc", "qpa"), "detectable_d"] == pytest.approx(0.78, abs=0.005)
    qpa = pooled.loc["auc", "qpa"]
    assert qpa["d_low"] > 0  # not significant after the correction
    assert qpa["p"] < 0.05 < qpa["p_holm"]
    assert pooled.loc[("auc", ["sail", "sail_revkl", "pebble_revkl"]), "p_equivalence"].max() < 0.01
