"""Accuracy of estimates of T2, and effect of T2 on a reward fit.

These are the results of the study's mechanism (docs/study.md), from a folder with the files
`gradients_*.csv` and `refits_*.csv` of `study/mechanism.py`. The seed is the replicate.
"""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from mujoco_sail.analysis import estimates, stats
from mujoco_sail.analysis.choice import NotApplicableError
from mujoco_sail.results.read import LARGEST, read_cells
from mujoco_sail.system.errors import UserError

COLUMNS = {
    "gradients": (
        *("env", "session", "estimate", "window", "labels", "repeat", "seed", "network"),
        *("inner", "square", "square_of_other", "t1_norm"),
    ),
    "refits": (
        *("env", "session", "seed", "unit", "lambda", "batches"),
        *("log_p", "return", "accuracy", "share", "signal"),
    ),
}
TEXTS = {"env", "estimate", "unit"}  # all other columns are numbers
MAY_LACK = {"window", "labels", "repeat", "t1_norm", "share", "signal"}
REFERENCE = "reference"  # halves A and B of many new episodes, instead of an estimate
ORDER = (REFERENCE, "labels", "corrected", "model", "sessions")
ALL = "all"  # sessions
CELL = ("estimate", "window", "labels")
BASE = ("labels", "20", 10)  # the estimate used by the agents, which others must exceed
MEASURES = ("log_p", "return", "accuracy")  # of the policy after a refit


def read(folder: Path, stage: str) -> pd.DataFrame:
    """Reads all files of a stage.

    Args:
        folder: Folder of the files.
        stage: "gradients" or "refits".

    Raises:
        NotApplicableError: There is no file.
        UserError: A file is damaged.
    """
    paths = sorted(folder.glob(f"{stage}_*.csv"))
    if not paths:
        raise NotApplicableError(f"{folder}: no {stage}_*.csv, which study/mechanism.py writes")
    return pd.concat([_read(path, COLUMNS[stage]) for path in paths], ignore_index=True)


def _read(path: Path, columns: tuple[str, ...]) -> pd.DataFrame:
    table = read_cells(path, None)
    for name in columns:
        if name not in table:
            raise UserError(f"{path}: missing column '{name}'")
        if name in TEXTS:
            good = table[name].notna()
        else:
            lacking = table[name].isna() & (name in MAY_LACK)
            table[name] = pd.to_numeric(table[name], errors="coerce")
            good = (table[name].abs() <= LARGEST) | lacking
        if not good.all():
            raise UserError(f"{path}: column '{name}' has a value that cannot be read")
    return table[list(columns)]


# --- estimates of T2 ---


def nearness(gradients: pd.DataFrame) -> pd.DataFrame:
    """Compares each estimate with T2.

    With sums over seeds and networks of means over repeats, and halves A and B of the reference:

        |T2|^2 = sum <A, B>
        cosine = sum <estimate, (A + B) / 2> / sqrt(sum |estimate|^2 |T2|^2)
        error  = sqrt(sum |estimate|^2 - 2 sum <estimate, (A + B) / 2> + |T2|^2) / |T2|

    If A, B and the estimate are independent, noise of the reference does not bias these sums. In
    the published gradients they share the noise of the policy's actions, which makes <A, B> too
    large, see docs/study.md. In the rows of the reference itself the
    estimate is one of its halves.

    Args:
        gradients: See `read`.

    Returns:
        A row per environment, session and estimate, with these columns; undefined values are nan.

        env, session, estimate, window, labels: The window is the number of newest episodes, for
            the estimate "sessions" the number of newest sessions (if there are as many), or `ALL`.
            Labels are those of the estimate, for "sessions" those of each session. In rows with
            `ALL` as session, the sums are also over sessions.
        cosine, low, high: The cosine and its 95 % bootstrap interval, seeds resampled.
        undefined: Number of the `stats.RESAMPLES` resamples in which |T2|^2 is not positive; they
            are excluded from the interval.
        difference, difference_low, difference_high: Difference from the cosine of `BASE`, and its
            interval over the same resamples.
        along: The cosine times |T2|, in units of |T1|; defined even if the cosine is not.
        above: Fraction of all resamples in which `along` (and so the cosine) exceeds `BASE`'s.
        error, norm: The error above, and the norm of the estimate in units of |T1|.
        signal, signal_low, signal_high: |T2| in units of |T1|; a negative square counts as 0.

    Raises:
        UserError: A seed lacks an estimate that others have, or a session has no reference.
    """
    rows = []
    for env, of_env in gradients.groupby("env"):
        sums = _sums(of_env)
        along = {place: of[0] / _root(of[1]) for place, (of, _) in sums.items()}
        for place, (of, reference) in sums.items():
            row = {"env": env, **dict(zip(("session", *CELL), place, strict=True))}
            base, length = along.get((place[0], *BASE), np.nan), _root(reference[0])
            row |= _interval(along[place] / length, "cosine", "low", "high")
            row["undefined"] = int((reference[0, 1:] <= 0).sum())
            beyond = along[place] - base
            row |= _interval(beyond / length, "difference", "difference_low", "difference_high")
            row["along"] = float((along[place] / _root(reference[2]))[0])
            row["above"] = float((beyond[1:] > 0).mean())
            (inner, square, _), (truth, _, t1) = of[:, 0], reference[:, 0]
            row["error"] = float(_root(square - 2 * inner + truth) / _root(truth))
            row["norm"] = float(_root(square / t1))
            signal = _interval(reference[0] / reference[2], "signal", "signal_low", "signal_high")
            row |= {name: math.sqrt(max(value, 0)) for name, value in signal.items()}
            rows.append(row)
    return pd.DataFrame(rows).sort_values(["env", "session", *CELL], key=_rank, ignore_index=True)


def choice(near: pd.DataFrame) -> pd.DataFrame:
    """Selects an estimate by the declared rule, a row for each environment.

    The candidates are "labels", "corrected" and five "sessions", with ten labels per session. The
    one with the highest cosine over all sessions is selected if it exceeds that of `BASE` in
    97.5 % of the resamples, so that the 95 % interval of the difference is above 0; otherwise
    `BASE`. The result does not depend on |T2|, a common factor of all cosines.

    Args:
        near: Table of `nearness`.
    """
    five = (near["estimate"] == "sessions") & (near["window"] == "5")
    allowed = near[
        (near["session"] == ALL)
        & (near["labels"] == BASE[2])
        & (near["estimate"].isin(["labels", "corrected"]) | five)
    ]
    best = allowed.loc[allowed.groupby("env")["along"].idxmax()]
    base = allowed[(allowed["estimate"] == BASE[0]) & (allowed["window"] == BASE[1])]
    best = best[best["above"] >= (1 + stats.LEVEL) / 2]
    return pd.concat([best, base[~base["env"].isin(best["env"])]])


def _sums(of_env: pd.DataFrame) -> dict[tuple[object, ...], tuple[stats.Array, stats.Array]]:
    """Sums over seeds and networks for an estimate and the reference, by session and estimate.

    Returns:
        For both: <estimate, other>, |estimate|^2 and |T1|^2, shape (3, 1 + resamples): first over
        all seeds, then over each resample, the same resamples for all estimates.
    """
    values = ["inner", "square", "t1_square"]
    place = ["session", *CELL]
    networks = _tidy(of_env).groupby([*place, "seed", "network"])[values].mean()
    of_seeds = networks.groupby(level=[*place, "seed"]).sum()
    seeds = {value: of_seeds[value].unstack("seed") for value in values}
    _check_whole(seeds["inner"])
    places, count = seeds["inner"].index, seeds["inner"].shape[1]
    drawn = stats.resampling().multinomial(count, np.full(count, 1 / count), stats.RESAMPLES)
    times = np.vstack([np.ones(count), drawn]).T  # count of each seed in a sample
    sums = np.stack([seeds[value].to_numpy() @ times for value in values], axis=1)
    by_place = dict(zip(places, sums, strict=True))
    whole = {place[0] for place in by_place if place[1] == REFERENCE}
    if lacking := {place[0] for place in by_place} - whole:
        raise UserError(f"session {min(lacking)} has no rows of the estimate '{REFERENCE}'")
    of_all: dict[tuple[object, ...], stats.Array] = {}
    for (_, *cell), of in by_place.items():
        of_all[ALL, *cell] = of_all.get((ALL, *cell), 0) + of
    by_place |= of_all
    references = {place[0]: of for place, of in by_place.items() if place[1] == REFERENCE}
    return {place: (of, references[place[0]]) for place, of in by_place.items()}


def _tidy(gradients: pd.DataFrame) -> pd.DataFrame:
    """Windows as strings, labels per session, and the mean square of the reference's halves."""
    table = gradients.fillna({"window": 0, "labels": 0}).astype({"window": int, "labels": int})
    several, so_far = table["estimate"] == "sessions", table["session"] - 1
    sessions = table["window"].clip(upper=so_far).where(several, 1)
    halves = (table["square"] + table["square_of_other"]) / 2
    return table.assign(
        window=table["window"].astype(str).mask(several & (table["window"] == so_far), ALL),
        labels=table["labels"] // sessions,
        square=table["square"].mask(table["estimate"] == REFERENCE, halves),
        t1_square=table["t1_norm"] ** 2,
    )


def _rank(column: "pd.Series[Any]") -> "pd.Series[Any]":
    """Sort key of a column."""
    if column.name == "estimate":
        return column.map({name: place for place, name in enumerate(ORDER)})
    return column if column.name == "env" else column.replace(ALL, np.inf).astype(float)


def _root(square: ArrayLike) -> stats.Array:
    """Square root; nan of 0 and of a square that is negative because of noise."""
    values = np.asarray(square, dtype=np.float64)
    return np.sqrt(np.where(values > 0, values, np.nan))


def _interval(samples: stats.Array, *names: str) -> dict[str, float]:
    """The first value, and the ends of the 95 % interval of the others, by names.

    If the first value is undefined, the interval is undefined too.
    """
    rest = samples[1:][~np.isnan(samples[1:] + samples[0])]
    tail = 50 * (1 - stats.LEVEL)
    ends = np.percentile(rest, [tail, 100 - tail]) if len(rest) else (np.nan, np.nan)
    return dict(zip(names, map(float, (samples[0], *ends)), strict=True))


# --- refits ---


def differences(refits: pd.DataFrame) -> pd.DataFrame:
    """Compares refits with each weight of T2 with the mean of the refits without it.

    Args:
        refits: See `read`.

    Returns:
        Columns env, session (`ALL` for the mean over sessions), unit, lambda, seeds; share, the
        mean norm of T2 in units of |T1|, and signal, the root of its mean square without noise, 0
        if that is negative; for each of `MEASURES` the mean over seeds of the paired differences,
        with its 95 % t interval in columns with the suffixes `_low` and `_high`. Rows with lambda
        0 are the difference of the two refits without T2, which is noise.

    Raises:
        UserError: A seed lacks a refit that others have, or there are not two without T2.
    """
    parts = [refits.astype({"session": object}), refits.assign(session=ALL)]
    arm = ["unit", "lambda", "batches"]
    runs = pd.concat(parts).groupby(["env", "session", *arm, "seed"], sort=False)
    means = runs[[*MEASURES, "share", "signal"]].mean().reset_index()  # over the sessions of `ALL`
    rows = []
    for (env, session), of_session in means.groupby(["env", "session"], sort=False):
        _check_whole(of_session.pivot(index=arm, columns="seed", values=MEASURES[0]))
        arms = {
            key: of.set_index("seed").sort_index()
            for key, of in of_session.groupby(arm, sort=False)
        }
        without = [key for key in arms if key[1] == 0]
        if len(without) != 2:
            raise UserError(f"{env}: {len(without)} refits at lambda 0; expected two")
        first, second = (arms.pop(key)[[*MEASURES]] for key in without)
        pairs = {without[0]: (second, first)}
        pairs |= {key: (of, (first + second) / 2) for key, of in arms.items()}
        for key, (scores, rivals) in pairs.items():
            row = {"env": env, "session": session, "unit": key[0], "lambda": key[1]}
            row["seeds"] = len(scores)
            if key in arms:
                row |= {"share": scores["share"].mean()}
                row |= {"signal": np.sqrt(max(scores["signal"].mean(), 0))}
            for name in MEASURES:
                difference = estimates.paired(scores[name].to_numpy(), rivals[name].to_numpy())
                low, high = difference.interval()
                row |= {name: difference.value, f"{name}_low": low, f"{name}_high": high}
            rows.append(row)
    return pd.DataFrame(rows)


def _check_whole(table: pd.DataFrame) -> None:
    """Checks that every seed (column) has all rows that others have.

    Raises:
        UserError: A seed lacks a row; the message names both.
    """
    lacking = table.isna()
    for row, seed in zip(*np.nonzero(lacking.to_numpy()), strict=True):
        what = ", ".join(map(str, table.index[row]))
        raise UserError(f"seed {table.columns[seed]} lacks what others have: {what}")
