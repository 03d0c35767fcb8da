"""Verdicts follow from the numbers of the comparison."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pytest
from helpers.results import record

from mujoco_sail.analysis import across, paired
from mujoco_sail.analysis.verdict import verdicts
from mujoco_sail.results.read import RunRecord

Shifts = Mapping[str, float]


def runs_of(arms: Mapping[tuple[str, str], Sequence[float]]) -> list[RunRecord]:
    """Runs with one evaluation each; all except random and sac use labels."""
    return [
        record(env, agent, seed, [final], [0 if agent in ("random", "sac") else 4])
        for (env, agent), arm in sorted(arms.items())
        for seed, final in enumerate(arm)
    ]


def normal(shifts: Shifts, seeds: int = 12, gain: float = 100) -> list[RunRecord]:
    """Paired normal seeds in two environments with shifted means; random 0 and sac `gain`."""
    draws = np.random.default_rng(3)
    arms: dict[tuple[str, str], Sequence[float]] = {}
    for env in ("ant", "hopper"):
        arms |= {(env, "random"): [0, 0], (env, "sac"): [gain, gain]}
        common = draws.normal(50, 10, seeds)
        for agent, shift in {"pebble": 0, **shifts}.items():
            arms[env, agent] = common + draws.normal(shift, 5, seeds)
    return runs_of(arms)


def judge(runs: Sequence[RunRecord], baseline: str = "pebble", margin: float = 0.1) -> list[str]:
    return verdicts(runs, paired.compare(runs, baseline, margin), baseline, margin)


def test_a_verdict_is_better_worse_or_no_difference_detected() -> None:
    runs = normal({"sail": 20, "sail_revkl": -20, "mrn": 0})
    mrn, sail, revkl = judge(runs)
    frame = paired.compare(runs, "pebble", 0.1)
    row = frame[frame["metric"] == "auc"].set_index(["environment", "agent"]).loc["pooled", "mrn"]
    share, low, high = row[["share", "share_low", "share_high"]]
    assert mrn == (
        "No difference between MRN and PEBBLE was detected: paired difference in area under the "
        f"curve {share:z.2f} [{low:.2f}, {high:.2f}] of SAC's gain (12 seeds on each of "
        f"2 environments; the design detects {row['detectable_share']:.2f} with 80 % power); "
        f"equivalence within 0.1: yes ({_p(row['p_equivalence'])})."
    )
    assert sail.startswith(
        "SAIL is better than PEBBLE, after Holm's correction (p < 0.001): paired difference in "
        "area under the curve 0."
    )
    assert revkl.startswith("SAIL-RevKL is worse than PEBBLE, after Holm's correction (p < 0.001)")
    assert all("equivalence within 0.1: not shown (p = " in said for said in (sail, revkl))


def _p(p: float) -> str:
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"


def test_a_difference_that_does_not_survive_holm_is_not_detected() -> None:
    runs = normal({"sail": 3.8, **{f"other_{i}": 0.0 for i in range(30)}})
    frame = paired.compare(runs, "pebble", 0.1)
    sail = frame[(frame["environment"] == across.POOLED) & (frame["agent"] == "sail")].iloc[0]
    assert sail["p"] < 0.05 < sail["p_holm"]
    (said,) = (said for said in judge(runs) if "SAIL" in said)
    assert said.startswith(
        "No difference between SAIL and PEBBLE was detected after Holm's correction "
        f"(p = {sail['p_holm']:.3f}): paired difference"
    )


def test_equivalence_uses_the_requested_margin() -> None:
    runs = normal({"sail": 0})
    assert "equivalence within 0.5: yes (p < 0.001)" in judge(runs, margin=0.5)[0]
    assert "equivalence within 0.001: not shown" in judge(runs, margin=0.001)[0]


def test_every_agent_that_uses_labels_is_judged_against_any_other() -> None:
    runs = normal({"sail": 0, "sail_revkl": 0, "mine": 0})
    assert [said.split(" between ")[1].split(" was")[0] for said in judge(runs, "sail")] == [
        "mine and SAIL",
        "PEBBLE and SAIL",
        "SAIL-RevKL and SAIL",
    ]
    assert len(judge(runs, "sac")) == 4


def test_without_random_and_sac_the_verdict_rests_on_d() -> None:
    runs = [run for run in normal({"sail": 0, "mrn": 30}) if run.agent != "sac"]
    mrn, sail = judge(runs)
    assert mrn.startswith("MRN is better than PEBBLE: d of the area under the curve ")
    assert sail.startswith("No difference between SAIL and PEBBLE was detected: d of the area")
    assert sail.endswith(
        "(12 seeds on each of 2 environments; the design detects 0.83 with 80 % power)."
    )


def test_a_huge_difference_is_detected_without_random_and_sac() -> None:
    wide = np.array([99.0, 101.0, 100.0, 100.5, 99.5])
    runs = runs_of({("ant", "pebble"): wide, ("ant", "surf"): wide + 8000})
    (line,) = judge(runs)
    assert line.startswith("SURF is better than PEBBLE: d of the ")


# --- no variation, or too few seeds ---

ANT: dict[tuple[str, str], Sequence[float]] = {
    ("ant", "random"): [0, 0],
    ("ant", "sac"): [100, 100],
    ("ant", "pebble"): [30, 45, 40, 55, 50],
    ("ant", "sail"): [60, 70, 69, 80, 83],
}


def test_an_environment_without_variation_of_differences_is_not_excluded() -> None:
    worse = {("hopper", agent): [x] * 5 for agent, x in (("sail", 1), ("pebble", 2))}
    ends = {("hopper", "random"): [0, 0], ("hopper", "sac"): [4, 4]}
    (said,) = judge(runs_of(ANT | worse | ends))
    assert "paired difference in area under the curve 0.02 [" in said  # of 0.284 and -0.25
    assert "5 seeds on each of 2 environments" in said
    assert said.endswith(" On hopper neither agent's returns vary: all differences are negative.")
    (said,) = judge(runs_of(ANT | worse))
    assert said == (
        "SAIL cannot be compared with PEBBLE: "
        "on hopper neither agent's returns vary: all differences are negative."
    )


def test_an_environment_of_equal_returns_counts_as_no_difference_and_is_named() -> None:
    equal = {("hopper", agent): [2] * 5 for agent in ("sail", "pebble")}
    ends = {("hopper", "random"): [0, 0], ("hopper", "sac"): [4, 4]}
    (said,) = judge(runs_of(ANT | equal | ends))
    assert "0.14 [" in said
    assert "5 seeds on each of 2 environments" in said
    assert said.endswith(" On hopper all paired differences are 0.")


@pytest.mark.parametrize("anchors", [True, False])
@pytest.mark.parametrize("level", [2, 3])
def test_constant_returns_in_the_only_environment_are_stated_as_the_reason(
    level: float, anchors: bool
) -> None:
    arms: dict[tuple[str, str], Sequence[float]] = {
        ("ant", "pebble"): [2] * 5,
        ("ant", "sail"): [level] * 5,
    }
    ends = {("ant", "random"): [0, 0], ("ant", "sac"): [4, 4]} if anchors else {}
    (said,) = judge(runs_of(arms | ends))
    if level == 2:
        assert said.startswith("No difference between SAIL and PEBBLE was detected: ")
        assert "5 seeds on 1 environment" in said
        assert said.endswith(" On ant all paired differences are 0.")
    else:
        assert said == (
            "SAIL cannot be compared with PEBBLE: "
            "on ant neither agent's returns vary: all differences are positive."
        )


def test_too_few_seeds_are_stated_as_the_reason() -> None:
    arms = {("ant", "pebble"): [1.0, 2], ("ant", "sail"): [3.0], ("hopper", "mrn"): [1.0, 2]}
    assert judge(runs_of(arms)) == [
        "MRN cannot be compared with PEBBLE: no environment has finished runs of both.",
        "SAIL cannot be compared with PEBBLE: on ant the two have one common seed.",
    ]


def test_agents_without_common_seeds_are_compared_by_d() -> None:
    later = [record("ant", "sail", 10 + i, [x], [4]) for i, x in enumerate((30, 45, 41))]
    (said,) = judge([*runs_of({k: v for k, v in ANT.items() if k[1] != "sail"}), *later])
    assert said.startswith("No difference between SAIL and PEBBLE was detected: d of the area")
    assert "(3 against 5 seeds on 1 environment; " in said
    assert said.endswith(" On ant the two have no common seed.")


# --- failed seeds ---


def failing(agent: str, count: int, env: str = "ant") -> list[RunRecord]:
    return [
        replace(record(env, agent, 50 + seed, [0]), status="failed", failure="nan")
        for seed in range(count)
    ]


def test_the_basis_names_failed_seeds_of_both_agents() -> None:
    runs = runs_of(ANT)
    (said,) = judge([*runs, *failing("sail", 6)])
    assert "(5 seeds, 6 of SAIL failed, on 1 environment; the design detects " in said
    (said,) = judge([*runs, *failing("sail", 1), *failing("pebble", 2, "hopper")])
    assert "(5 seeds, 1 of SAIL and 2 of PEBBLE failed, on 1 environment; " in said
    unscaled = [run for run in runs if run.agent != "sac"]
    (said,) = judge([*unscaled, *failing("sail", 6)])
    assert "(5 seeds, 6 of SAIL failed, on 1 environment; the design detects " in said


def test_an_agent_whose_runs_all_failed_is_named_with_their_number() -> None:
    runs = [run for run in runs_of(ANT) if run.agent != "sail"]
    assert judge([*runs, *failing("sail", 3)]) == [
        "SAIL cannot be compared with PEBBLE: no environment has finished runs of both, "
        "3 of SAIL failed."
    ]
