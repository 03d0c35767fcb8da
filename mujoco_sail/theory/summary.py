"""Means over the random decision problems, for printing and plotting."""

import pandas as pd

from mujoco_sail.analysis import stats
from mujoco_sail.theory.picking import AGREEMENTS, SHARES
from mujoco_sail.theory.truncation import (
    HORIZONS,
    OWN_RETURN,
    STEPS,
    T1_ALONE,
    USUAL,
    USUAL_HORIZON,
)

ESTIMATES = (T1_ALONE, *STEPS, OWN_RETURN)
USUALLY: dict[str, float] = {"horizon": USUAL_HORIZON, "agreement": 0.0, **USUAL._asdict()}
PRINTED = (  # columns of the printed table
    USUALLY,
    USUALLY | {"horizon": HORIZONS[-1], "randomness": 0.0},
    USUALLY | {"horizon": HORIZONS[-1], "randomness": 0.0, "temperature": 0.3},
)
LABELS = 10  # labels per session in the paper's scripts


def over_problems(table: pd.DataFrame, by: str, column: str) -> pd.DataFrame:
    """Mean of a column over seeds and its 95 % bootstrap interval, for each level of `by`.

    Args:
        table: Table with one row per seed and level.
        by: Column of the levels.
        column: Column to average.

    Returns:
        Columns mean, low and high, indexed by the levels in ascending order.
    """
    values = table.pivot(index="seed", columns=by, values=column)
    low, high = stats.bootstrap_interval([values.to_numpy()], stats.mean, stats.resampling())
    return pd.DataFrame({"mean": values.mean(), "low": low, "high": high})


def at(table: pd.DataFrame, setting: dict[str, float]) -> pd.DataFrame:
    """Selects the rows of `truncation.measure` for a setting."""
    return table[(table[list(setting)] == pd.Series(setting)).all(axis=1)]


def session_error(picking: pd.DataFrame, labels: float) -> pd.Series:
    """Root mean square error of T1 + T2 for a number of labels, relative to |grad J|."""
    return (picking["error"] ** 2 + picking["noise"] ** 2 / labels) ** 0.5


def truncation_rows(table: pd.DataFrame) -> list[list[str]]:
    """Printed table of `truncation.measure`: the header, then a row per estimate."""
    head, rows = ["relative error, cosine"], [[name] for name in ESTIMATES]
    for setting in PRINTED:
        head.append(
            "H {horizon:g}, alpha {temperature:g}, randomness {randomness:g}".format(**setting)
        )
        part = at(table, setting)
        error, cosine = (over_problems(part, "estimate", c) for c in ("error", "cosine"))
        for row in rows:
            row.append(f"{_interval(error, row[0])}, {cosine['mean'][row[0]]:.2f}")
    return [head, *rows]


def picking_rows(table: pd.DataFrame) -> list[list[str]]:
    """Printed table of `picking.measure`: the header, then a row per rule and session.

    It is for the smallest share and the first agreement.
    """
    few = table[(table["share"] == SHARES[-1]) & (table["agreement"] == AGREEMENTS[0])]
    few = few.assign(session_error=session_error(few, LABELS))
    rows = [["pairs, terms", "relative error", "cosine", "of T2", f"error of {LABELS} labels"]]
    for (rule, session), part in few.groupby(["rule", "session"], sort=False):
        error = _interval(over_problems(part, "share", "error"), SHARES[-1])
        means = part[["cosine", "t2_cosine", "session_error"]].mean()
        rows.append([f"{rule}, {session}", error, *(f"{x:.2f}" for x in means)])
    return rows


def _interval(means: pd.DataFrame, level: object) -> str:
    mean, low, high = means.loc[[level]].to_numpy()[0]
    return f"{mean:.2f} [{low:.2f}, {high:.2f}]"
