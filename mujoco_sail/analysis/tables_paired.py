"""Table of the paired comparison with a baseline."""

from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd

from mujoco_sail.analysis import tables_text
from mujoco_sail.analysis.across import HIGH, LOW, POOLED
from mujoco_sail.analysis.tables_text import Cells, decimals, interval, number, p_value

GAIN = f"of {HIGH}'s gain"
NAMES = {"auc": "AUC", "final": "final return"}


def render(frame: pd.DataFrame, format: str) -> str:
    """Formats `cells` as Markdown or LaTeX; see `tables_text.render`."""
    return tables_text.render(frame, cells, texts(frame), format)


def texts(frame: pd.DataFrame) -> int:
    """Number of text columns in `cells`, before the columns of numbers."""
    return 1 if _is_pooled(frame) else 2


def cells(frame: pd.DataFrame) -> Cells:
    """Cells of the displayed table, header first.

    Args:
        frame: Rows of `paired.by_environment`, or the pooled rows of `paired.compare`.
    """
    pooled = _is_pooled(frame)
    header = ["agent", "environments"] if pooled else ["environment", "agent"]
    header += ["pairs"] if pooled else ["pairs", "AUC: difference [95 % interval]"]
    header += [f"AUC: share {GAIN} [95 % interval]", "unpaired [95 % interval]"]
    header += [f"final return: share {GAIN} [95 % interval]", "d of AUC [95 % interval]"]
    rows = [[*header, "p (Holm)", "p of equivalence", "detectable share", "detectable d"]]
    areas, finals = (frame[frame["metric"] == metric] for metric in ("auc", "final"))
    digits = decimals(areas, "difference")
    parts = areas.to_dict("records"), finals.to_dict("records"), digits
    for area, final, places in zip(*parts, strict=True):
        names = ["agent", "environments"] if pooled else ["environment", "agent"]
        row = [str(area[name]) for name in [*names, "n_pairs"]]
        if not pooled:
            row.append(interval(area["difference"], area["low"], area["high"], places))
        row += [
            _interval(area, "share"),
            _interval(area, "unpaired_share"),
            _interval(final, "share"),
            _interval(area, "d"),
            p_value(area["p_holm"]),
            p_value(area["p_equivalence"]),
            number(area["detectable_share"], 2),
            number(area["detectable_d"], 2),
        ]
        rows.append(row)
    return rows


def footer(frame: pd.DataFrame, baseline: str, margin: float) -> list[str]:
    """Lines below the table: definitions, and reasons for undefined numbers."""
    return [*(definitions(baseline, margin) if len(frame) else []), *_notes(frame)]


def definitions(baseline: str, margin: float) -> list[str]:
    """Definitions of the columns."""
    return [
        f"AUC: area under the learning curve over its length. Differences: {baseline}'s seed n is "
        "taken from the agent's seed n; pairs: seeds that both have.",
        f"share: the difference over {HIGH}'s gain, its mean minus that of {LOW} in the same "
        "environment and metric. unpaired: of the same AUC, over all seeds (Welch).",
        "d of AUC: over all seeds, Hedges-corrected. p: t test of the paired differences in AUC; "
        "Holm: corrected for all rows of the same table.",
        f"p of equivalence: two one-sided tests that the share of AUC is within {margin:g} of 0. "
        "detectable: what a test at 5 % finds with 80 % power; of d from the numbers of seeds.",
    ]


def _notes(frame: pd.DataFrame) -> list[str]:
    """Lines about values that do not vary or are missing, and environments without a gain.

    A line that holds for one metric only names it.
    """
    single = frame[frame["environment"] != POOLED]
    noted = single[single["note"] != ""].groupby(["agent", "note"], sort=False)["metric"]
    said = [f"{agent}{_only(rows, ', ')}: {note}" for (agent, note), rows in noted]
    without: dict[str, list[str]] = {}
    for env, rows in single.groupby("environment"):
        shares = rows[rows["difference"].notna()].groupby("metric")["share"].count()
        if (shares == 0).any():
            of = _only(shares.index[shares == 0], " of ")
            without.setdefault(of, []).append(str(env))
    for of, places in without.items():
        said.append(
            f"no shares{of} in {', '.join(places)}: they need finished runs of {LOW} and of "
            f"{HIGH}, and {HIGH} above {LOW}"
        )
    return said


def _only(metrics: Iterable[str], before: str) -> str:
    """Name of the only metric of a note; empty if the note is about both."""
    names = {*metrics}
    return f"{before}{NAMES[names.pop()]}" if len(names) == 1 else ""


def _is_pooled(frame: pd.DataFrame) -> bool:
    return bool((frame["environment"] == POOLED).all())


def _interval(row: Mapping[Any, Any], name: str) -> str:
    return interval(row[name], row[f"{name}_low"], row[f"{name}_high"], 2)
