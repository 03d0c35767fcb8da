"""Reliability of a person's answers: agreement with the task reward, and the teacher that fits.

Answers come from `answers.jsonl` of the runs. Margins are differences of task returns in the unit
of the synthetic teachers' beta (`preferences.teacher`), so that the fitted teacher means the same.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import tomli_w
from numpy.typing import NDArray
from scipy.special import expit
from scipy.stats import binomtest, chi2

from mujoco_sail.analysis.commands import env_recipe
from mujoco_sail.preferences.answers import TAKEN, AnswerLog
from mujoco_sail.preferences.questions import LABELS
from mujoco_sail.results.pooling import read_all
from mujoco_sail.system.errors import UserError
from mujoco_sail.system.files import check_writable, write_text

NAME = "person"  # of the fitted teacher in its recipe
PARTS = 4  # groups of answers by margin, and over time
# The likelihood is evaluated at all pairs of these; its intervals are as fine as they are.
BETAS = np.append(np.geomspace(0.02, 200, 200), np.inf)
MISTAKES = np.linspace(0, 0.5, 201)


@dataclass(frozen=True)
class Fit:
    """Teacher that fits best: its settings, each with its 95 % interval of profile likelihood."""

    beta: float
    beta_interval: tuple[float, float]
    mistake: float
    mistake_interval: tuple[float, float]


def report(results: Path, recipe: Path) -> str:
    """Describes the person who answered for the runs of a folder, in Markdown.

    Args:
        results: Folder of the results; its runs must be on one environment.
        recipe: TOML file, to which an environment recipe with the fitted teacher is written.

    Raises:
        UserError: No person answered, there are several environments, a file is damaged, or the
            recipe cannot be written.
    """
    if recipe.suffix != ".toml" or recipe.is_dir():
        raise UserError(f"--teacher-report {recipe}: expected a file that ends in .toml")
    check_writable(recipe.parent, f"--teacher-report {recipe}")
    runs = {run.folder: run.env for run in read_all(results)}
    tables = [answers(folder) for folder in runs]
    asked = {env for env, table in zip(runs.values(), tables, strict=True) if len(table)}
    if len(asked) != 1:
        got = f"answers on {', '.join(sorted(asked))}" if asked else "no answers of a person"
        raise UserError(f"{results}: {got}; expected runs of one environment, --teacher human")
    (env,) = asked
    table = pd.concat(tables).sort_values("at", kind="stable", ignore_index=True)
    firsts = table[~table["repeat"]]
    strict = firsts[(firsts["label"] != 0.5) & firsts["label"].notna() & (firsts["margin"] != 0)]
    if strict.empty:
        raise UserError(f"{results}: no answer prefers one of two segments of different returns")
    found = fit(strict["margin"].to_numpy(), strict["label"].to_numpy())
    text = _recipe(env, found, len(strict))
    write_text(recipe, text)
    size = strict["margin"].abs()
    sizes = [strict.loc[part] for part in np.array_split(size.sort_values().index, PARTS)]
    times = [strict.loc[part] for part in np.array_split(strict.index, PARTS)]
    lines = [
        *_table("quantity", ["value"], _totals(table, strict)),
        "",
        *_table(
            "difference of returns, of its root mean square",
            ["agrees with the task reward"],
            [(_range(part["margin"].abs()), [_agreement(part)]) for part in sizes if len(part)],
        ),
        "",
        *_table(
            "strict answers in the order of time",
            ["agrees with the task reward", "seconds (median)"],
            [
                (f"{len(part)}", [_agreement(part), f"{part['seconds'].median():.1f}"])
                for part in times
                if len(part)
            ],
        ),
        "",
        f"The teacher that fits best, in {recipe}:",
        "",
        *(f"    {line}" for line in text.splitlines()),
    ]
    return "\n".join(lines)


def answers(folder: Path) -> pd.DataFrame:
    """Answers that a run took.

    Returns:
        Columns `at`, `seconds`, `margin`, `label` (nan if refused), `repeat`, and `same`: whether
        the second answer to a pair equals the first; nan for first answers.

    Raises:
        UserError: The file is damaged.
    """
    log, rows = AnswerLog(folder), []
    try:
        taken = {entry["key"]: entry[TAKEN]["margins"] for entry in log.entries() if TAKEN in entry}
        for key, margins in taken.items():
            given, _ = log.given(key)
            for (pair, again), said in given.items():
                label = LABELS[said.answer]
                row = {"at": said.at, "seconds": said.seconds, "margin": margins[str(pair)]}
                first = given[pair, False].answer
                same = float(said.answer == first) if again else math.nan
                value = math.nan if label is None else label
                rows.append(row | {"label": value, "repeat": again, "same": same})
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{log.path}: cannot be read: not what was written") from error
    columns = ["at", "seconds", "margin", "label", "repeat", "same"]
    types = dict.fromkeys(columns, float) | {"repeat": bool}  # also without answers
    return pd.DataFrame(rows, columns=columns).astype(types)


def fit(margin: NDArray[np.float64], label: NDArray[np.float64]) -> Fit:
    """Fits beta and mistake to strict labels by maximum likelihood.

        P(right) = (1 - mistake) sigmoid(beta |margin|) + mistake sigmoid(-beta |margin|)

    where right is the label of the larger return.

    Args:
        margin: Differences of returns in the unit of beta, not 0, [N].
        label: 1 where the first is preferred, 0 where the second, [N].
    """
    along = np.where(label == 1, margin, -margin)  # positive if right
    value = np.empty((len(BETAS), len(MISTAKES)))
    share = 1 - 2 * MISTAKES[:, None]
    for row, beta in enumerate(BETAS):
        rational = expit(beta * along)
        with np.errstate(divide="ignore"):
            value[row] = np.log(MISTAKES[:, None] + share * rational).sum(1)
    best = np.unravel_index(value.argmax(), value.shape)
    likely = value >= value.max() - chi2.ppf(0.95, 1) / 2
    return Fit(
        float(BETAS[best[0]]),
        _span(BETAS, likely.any(1)),
        float(MISTAKES[best[1]]),
        _span(MISTAKES, likely.any(0)),
    )


def _span(values: NDArray[np.float64], likely: NDArray[np.bool_]) -> tuple[float, float]:
    """Interval around the likely ones of sorted values, each end at the next unlikely value."""
    first, *_, last = np.flatnonzero(np.convolve(likely, [1, 1, 1], "same"))
    return float(values[first]), float(values[last])


def _recipe(env: str, found: Fit, count: int) -> str:
    beta, mistake = found.beta_interval, found.mistake_interval
    about = (
        f"# Fitted to {count} answers; 95 % intervals: beta {beta[0]:.2g} to {beta[1]:.2g}, "
        f"mistake {mistake[0]:.2g} to {mistake[1]:.2g}.\n"
    )
    settings = {"beta": float(f"{found.beta:.3g}"), "mistake": float(f"{found.mistake:.3g}")}
    return about + tomli_w.dumps({"base": env_recipe(env), "teachers": {NAME: settings}})


def _totals(table: pd.DataFrame, strict: pd.DataFrame) -> list[tuple[str, list[str]]]:
    firsts, repeats = table[~table["repeat"]], table[table["repeat"]]
    again = _share(int(repeats["same"].sum()), len(repeats)) if len(repeats) else "-"
    return [
        ("labels", [str(int(firsts["label"].notna().sum()))]),
        ("of which ties", [str(int((firsts["label"] == 0.5).sum()))]),
        ("refused pairs", [str(int(firsts["label"].isna().sum()))]),
        ("seconds per answer (median)", [f"{table['seconds'].median():.1f}"]),
        ("agrees with the task reward", [_agreement(strict)]),
        ("same answer to a pair shown twice", [again]),
    ]


def _agreement(part: pd.DataFrame) -> str:
    right = (part["label"] == 1) == (part["margin"] > 0)
    return _share(int(right.sum()), len(part))


def _share(count: int, total: int) -> str:
    """A share with its 95 % interval after Wilson."""
    interval = binomtest(count, total).proportion_ci(method="wilson")
    low, high = 100 * interval.low, 100 * interval.high
    return f"{100 * count / total:.0f} % [{low:.0f}, {high:.0f}] of {total}"


def _range(size: "pd.Series[float]") -> str:
    return f"{size.min():.2f} to {size.max():.2f}"


def _table(first: str, names: Sequence[str], rows: Sequence[tuple[str, list[str]]]) -> list[str]:
    cells = [[first, *names], ["---"] * (1 + len(names)), *([name, *row] for name, row in rows)]
    return [f"| {' | '.join(row)} |" for row in cells]
