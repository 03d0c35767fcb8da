"""Numbers of the study's mechanism, compared with hand computations."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from helpers.mechanism import gradients, refits, write_mechanism

from mujoco_sail.analysis import mechanism, stats
from mujoco_sail.analysis.choice import MissingDataError
from mujoco_sail.system.errors import UserError

LABELS = {"estimate": "labels", "window": 20, "labels": 10}
# Of two seeds: <A, B> is 4 and 5, the squares of the halves 7 and 10 on average, |T1| is 6 and 8.
HALVES: list[dict[str, Any]] = [
    {"seed": 0, "inner": 4.0, "square": 6.0, "square_of_other": 8.0, "t1_norm": 6.0},
    {"seed": 1, "network": 0, "inner": 2.0, "square": 4.0, "square_of_other": 4.0, "t1_norm": 8.0},
    {"seed": 1, "network": 1, "inner": 3.0, "square": 6.0, "square_of_other": 6.0, "t1_norm": 0.0},
]
# <estimate, T2> is 3 and 3, the square 12 and 4: the mean of two repeats, the sum of two networks.
ESTIMATE: list[dict[str, Any]] = [
    LABELS | {"seed": 0, "repeat": 0, "inner": 2.0, "square": 10.0},
    LABELS | {"seed": 0, "repeat": 1, "inner": 4.0, "square": 14.0},
    LABELS | {"seed": 1, "network": 0, "inner": 1.0, "square": 1.0},
    LABELS | {"seed": 1, "network": 1, "inner": 2.0, "square": 3.0},
]


def near(rows: Sequence[dict[str, Any]], session: object = 5, **cell: object) -> pd.Series[Any]:
    """Row of an estimate."""
    table = mechanism.nearness(gradients(rows))
    for name, value in ({"session": session, "estimate": "labels"} | cell).items():
        table = table[table[name] == value]
    (row,) = table.to_dict("records")
    return pd.Series(row)


# --- estimates of T2 ---


def test_cosine_error_and_norms_use_sums_over_seeds_and_networks() -> None:
    row = near([*HALVES, *ESTIMATE])
    assert row["cosine"] == pytest.approx(6 / math.sqrt(16 * 9))
    assert row["error"] == pytest.approx(math.sqrt(16 - 2 * 6 + 9) / 3)
    assert row["norm"] == pytest.approx(4 / 10)
    assert row["signal"] == pytest.approx(3 / 10)
    assert (row["window"], row["labels"], row["undefined"]) == ("20", 10, 0)


def test_the_row_of_the_reference_is_one_of_its_halves() -> None:
    row = near([*HALVES, *ESTIMATE], estimate="reference")
    assert row["cosine"] == pytest.approx(9 / math.sqrt(17 * 9))
    assert row["error"] == pytest.approx(math.sqrt(17 - 9) / 3)
    assert row["norm"] == pytest.approx(math.sqrt(17) / 10)


def test_the_interval_uses_the_same_resamples_in_numerator_and_denominator() -> None:
    row = near([*HALVES, *ESTIMATE])
    # A quarter of the resamples each has seed 0 twice and seed 1 twice.
    assert row["low"] == pytest.approx(3 / math.sqrt(12 * 4))
    assert row["high"] == pytest.approx(3 / math.sqrt(4 * 5))


def test_resamples_in_which_the_square_of_t2_is_not_positive_are_counted() -> None:
    negative = [HALVES[0], HALVES[1] | {"inner": -5.0}]
    row = near([*negative, *ESTIMATE[:3]])
    assert math.isnan(row["cosine"])
    assert math.isnan(row["error"])
    assert row["undefined"] / stats.RESAMPLES == pytest.approx(0.75, abs=0.02)
    assert math.isnan(row["low"])
    assert row["signal"] == row["signal_low"] == 0
    assert row["signal_high"] == pytest.approx(math.sqrt(4) / 6)


def test_such_resamples_are_excluded_from_the_interval() -> None:
    negative = [HALVES[0], HALVES[1] | {"inner": -3.0}]
    row = near([*negative, *ESTIMATE[:3]])
    assert row["undefined"] / stats.RESAMPLES == pytest.approx(0.25, abs=0.02)
    assert row["low"] == pytest.approx(3 / math.sqrt(12 * 4))
    assert row["high"] == row["cosine"] == pytest.approx(4 / math.sqrt(13 * 1))


def test_an_error_below_its_noise_is_undefined() -> None:
    rows = [{"inner": 9.0}, LABELS | {"inner": 6.0, "square": 2.0}]
    assert math.isnan(near(rows)["error"])


def test_sessions_are_named_by_the_number_of_newest_sessions() -> None:
    rows = [
        {"session": session, "estimate": "sessions", "window": window, "labels": labels}
        for session, windows in {5: {1: 10, 5: 40, 4: 40}, 12: {1: 10, 5: 50, 11: 110}}.items()
        for window, labels in windows.items()
    ]
    table = mechanism.nearness(gradients([{"session": 5}, {"session": 12}, *rows]))
    table = table[table["estimate"] == "sessions"]
    assert list(table["session"]) == [5] * 3 + [12] * 3 + ["all"] * 3
    assert list(table["window"]) == ["1", "5", "all"] * 3
    assert set(table["labels"]) == {10}


def two_sessions(better: Sequence[float]) -> list[dict[str, Any]]:
    """|T2| is 1 in both sessions; `better` is by how much "corrected" exceeds "labels" by seed."""
    return [
        {"session": session, "seed": seed, "square": 1.0} | row
        for session, inner in ((5, 0.2), (12, 0.4))
        for seed, above in enumerate(better)
        for row in (
            {"inner": 1.0, "t1_norm": 5.0},
            LABELS | {"inner": inner},
            LABELS | {"estimate": "corrected", "inner": inner + above},
            LABELS | {"estimate": "model", "labels": 0, "inner": 0.9},
        )
    ]


def test_over_the_sessions_everything_is_summed() -> None:
    rows = two_sessions([0.1, 0.3])
    # Of four rows each, <., T2> is 1.2, the square 4 and |T2|^2 4.
    assert near(rows, "all")["cosine"] == pytest.approx(1.2 / 4)
    assert near(rows, "all")["error"] == pytest.approx(math.sqrt(4 - 2.4 + 4) / 2)
    row = near(rows, "all", estimate="corrected")
    assert row["cosine"] == pytest.approx(2.0 / 4)
    ends = row[["difference", "difference_low", "difference_high"]]
    assert list(ends) == pytest.approx([0.2, 0.1, 0.3])


@pytest.mark.parametrize(
    ("better", "picked"), [([0.1, 0.3], "corrected"), ([-0.1, 0.3], "labels"), ([-1, -1], "labels")]
)
def test_the_rule_selects_the_estimate_significantly_above_the_base(
    better: Sequence[float], picked: str
) -> None:
    table = mechanism.nearness(gradients(two_sessions(better)))
    (row,) = mechanism.choice(table).to_dict("records")
    assert (row["env"], row["estimate"], row["window"]) == ("walker_walk", picked, "20")


def test_the_rule_does_not_depend_on_whether_the_square_of_t2_is_positive() -> None:
    rows = [
        row | ({} if "estimate" in row else {"inner": -1.0}) for row in two_sessions([0.1, 0.3])
    ]
    table = mechanism.nearness(gradients(rows))
    assert table["cosine"].isna().all()
    (row,) = mechanism.choice(table).to_dict("records")
    assert (row["estimate"], row["above"]) == ("corrected", 1)
    assert row["along"] == pytest.approx(2.0 / math.sqrt(4) / math.sqrt(4 * 25))


def test_a_missing_estimate_or_reference_is_an_error() -> None:
    with pytest.raises(UserError, match="seed 1 lacks what others have: 5, labels, 20, 10"):
        near([*HALVES, *ESTIMATE[:2]])
    with pytest.raises(UserError, match="session 5 has no rows of the estimate 'reference'"):
        near(ESTIMATE)


# --- refits ---


def fits(session: int, zeros: Sequence[Sequence[float]], t2: Sequence[float]) -> list[Any]:
    """Refits: log P of both without T2 and of the one with it, for each seed."""
    rows = []
    for seed, ((first, second), third) in enumerate(zip(zeros, t2, strict=True)):
        at = {"session": session, "seed": seed}
        rows += [at | {"batches": n, "log_p": x} for n, x in enumerate((first, second))]
        rows.append(
            at | {"lambda": 0.1, "log_p": third, "share": 0.1, "signal": (0.06, -0.04)[seed]}
        )
    return rows


# By seed the difference is 3 and 1 in session 5, 5 and 1 in session 12; that of the zeros 2 and 0.
FITS = [*fits(5, [(1, 3), (2, 2)], [5, 3]), *fits(12, [(0, 2), (1, 1)], [6, 2])]
T = 12.7062  # 97.5 % quantile of Student's t with one degree of freedom


@pytest.mark.parametrize(
    ("session", "lambda_", "mean", "error"),
    [(5, 0.1, 2, 1), (12, 0.1, 3, 2), ("all", 0.1, 2.5, 1.5), (5, 0, 1, 1), ("all", 0, 1, 1)],
)
def test_a_refit_is_compared_with_the_mean_of_both_without_t2(
    session: object, lambda_: float, mean: float, error: float
) -> None:
    table = mechanism.differences(refits(FITS))
    (row,) = table[(table["session"] == session) & (table["lambda"] == lambda_)].to_dict("records")
    expected = [mean, mean - T * error, mean + T * error]
    assert [row["log_p"], row["log_p_low"], row["log_p_high"]] == pytest.approx(expected, abs=1e-4)
    assert (row["seeds"], row["return"]) == (2, 0)


def test_a_refit_has_the_share_of_t2_and_of_its_signal() -> None:
    table = mechanism.differences(refits(FITS)).set_index(["session", "lambda"])
    assert table.loc[("all", 0.1), "share"] == pytest.approx(0.1)
    assert table.loc[("all", 0.1), "signal"] == pytest.approx(0.1)
    negative = mechanism.differences(refits(FITS).assign(signal=-1.0))
    assert negative["signal"].dropna().unique() == [0]
    assert math.isnan(table.loc[("all", 0), "share"])


def test_a_missing_refit_is_an_error() -> None:
    with pytest.raises(UserError, match=r"seed 1 lacks what others have: share, 0\.1, 0"):
        mechanism.differences(refits([row for row in FITS if row != FITS[5]]))
    with pytest.raises(UserError, match="1 refits at lambda 0; expected two"):
        mechanism.differences(refits([row for row in FITS if row.get("batches") != 1]))


# --- files ---


def test_all_parts_of_a_stage_are_read(tmp_path: Path) -> None:
    write_mechanism(tmp_path, seeds=4)
    assert sorted(mechanism.read(tmp_path, "gradients")["seed"].unique()) == [0, 1, 2, 3]
    assert sorted(mechanism.read(tmp_path, "refits")["seed"].unique()) == [0, 1, 2, 3]
    with pytest.raises(MissingDataError, match=r"no refits_\*\.csv"):
        mechanism.read(tmp_path / "nowhere", "refits")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "cannot be read"),
        ("env,session\nwalker_walk,5\n", "missing column 'seed'"),
        ("many", "column 'log_p' has a value that cannot be read"),
        ("inf", "column 'log_p' has a value that cannot be read"),
    ],
)
def test_a_damaged_part_is_named(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "refits_walker_walk_seed0.csv"
    if text in ("many", "inf"):
        text = refits(FITS).astype({"log_p": object}).replace({"log_p": {5: text}}).to_csv()
    path.write_text(text)
    with pytest.raises(UserError, match=f"{path.name}.*{message}"):
        mechanism.read(tmp_path, "refits")
