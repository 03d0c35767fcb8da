"""Dose-response figure: difference from the baseline against the weight of T2."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from mujoco_sail.analysis import estimates, paired
from mujoco_sail.analysis.across import METRICS, POOLED
from mujoco_sail.analysis.choice import (
    MissingDataError,
    NotApplicableError,
    missing_where_refused,
)
from mujoco_sail.analysis.figures.style import (
    COLOURS,
    METRIC_NAMES,
    PAGE,
    TITLE,
    even,
    label,
    seeds_label,
    sheet,
)
from mujoco_sail.analysis.stats import Array
from mujoco_sail.analysis.tables_text import failed_note
from mujoco_sail.recipes.settings import setting
from mujoco_sail.results.pooling import check_alike, training_tables
from mujoco_sail.results.read import RunRecord, count_failed

EXACT = "exact"
# Marker and label of each kind of agent.
KINDS = {
    "none": ("o", "T2"),
    "permuted": ("X", "placebo: permuted"),
    "reversed": ("v", "placebo: reversed"),
    EXACT: ("D", "T2, exact weight"),
}
HEIGHT = 2.1  # height of a row of panels, inches
SPREAD = 0.09  # horizontal distance between agents with the same share
MARK: dict[str, Any] = {"markersize": 5, "markeredgecolor": "white", "markeredgewidth": 0.4}
SMALL = 0.01  # signal share below which the axis is linear


@dataclass(frozen=True, kw_only=True)
class DosesRecipe:
    """Recipe of a figure of paired differences against the weight of T2."""

    kind: Literal["doses"] = setting()
    title: str = setting()
    caption: str = setting()  # meaning of points and intervals, for the report
    baseline: str = setting()  # agent without T2
    margin: float = setting(above=0)  # margin of equivalence, as a share of the gain
    y_label: str = setting()


def responses(runs: Sequence[RunRecord], baseline: str, margin: float) -> pd.DataFrame:
    """Differences of `paired.compare`, with the weight of T2 and its signal.

    Args:
        runs: Poolable runs; only complete ones are used.
        baseline: Agent that the others are compared with.
        margin: Margin of equivalence, as a share of the gain.

    Returns:
        The rows of agents whose T2 has a share of the gradient or its exact weight, with these
        columns: kind, one of `KINDS`; weight, that share or a factor of the exact weight; signal,
        the norm of T2 without noise in units of |T1|: the root of the mean of `t2_signal` over
        fits and seeds, 0 if that is negative, nan if runs did not log it and in pooled rows;
        signal_low and signal_high, the ends of its 95 % t interval over seeds, roots too.

    Raises:
        UserError: The environments cannot be pooled, or a `training.csv` is damaged.
    """
    arms: dict[str, dict[str, Any]] = {}
    for run in runs:
        table = run.table.get("agent", {})
        weight, unit = table.get("lambda"), table.get("lambda_unit")
        kind = EXACT if unit == EXACT else table.get("t2_control")
        if unit in ("share", EXACT) and kind in KINDS and isinstance(weight, float) and weight:
            arms[run.agent] = {"kind": kind, "weight": weight}
    rows = paired.compare(runs, baseline, margin)
    rows = rows[rows["agent"].isin(arms)]
    places = list(zip(rows["environment"], rows["agent"], strict=True))
    signals = {
        place: signal([r for r in runs if (r.env, r.agent) == place and r.status == "complete"])
        for place in places
    }
    ends = np.array([signals[place] for place in places]).reshape(-1, 3)
    return rows.assign(
        kind=[arms[agent]["kind"] for agent in rows["agent"]],
        weight=[arms[agent]["weight"] for agent in rows["agent"]],
        signal=ends[:, 0],
        signal_low=ends[:, 1],
        signal_high=ends[:, 2],
    )


def signal(runs: Sequence[RunRecord]) -> Array:
    """Signal of T2 in an agent's runs on one environment, then its interval, see `responses`.

    A row of `training.csv` has the values of the newest fit, so only rows whose number of labels
    changed are used.
    """
    fits = [
        table.loc[table["labels"].diff() != 0, "t2_signal"]
        for table in training_tables(runs)
        if "t2_signal" in table
    ]
    means = np.array([each.mean() for each in fits if each.notna().any()])
    squared = estimates.of_mean(means)
    return np.sqrt(np.maximum([squared.value, *squared.interval()], 0))


def draw(recipe: DosesRecipe, runs: Sequence[RunRecord], where: str) -> Figure:
    """Draws both metrics against the share of T2 and against its signal.

    Args:
        recipe: The recipe.
        runs: Poolable runs, complete or failed.
        where: File of the recipe, for messages.

    Raises:
        NotApplicableError: There is no run of the baseline.
        MissingDataError: There is no agent with T2, one cannot be compared with the baseline on an
            environment, or the environments cannot be pooled.
        UserError: A `training.csv` is damaged.
    """
    if not any(run.agent == recipe.baseline for run in runs):
        raise NotApplicableError(f"{where}: no run of {recipe.baseline}")
    with missing_where_refused(where):
        check_alike(runs)
    table = responses(runs, recipe.baseline, recipe.margin)
    undefined = table[table["share"].isna() & (table["environment"] != POOLED)]
    if table.empty or len(undefined):
        places = dict.fromkeys(zip(undefined["environment"], undefined["agent"], strict=True))
        of = f" of {', '.join('/'.join(place) for place in places)}" if places else ""
        raise MissingDataError(
            f"{where}: no difference from {recipe.baseline} is defined{of}; it takes sac above "
            "random, and seeds that both arms have"
        )
    environments = sorted({*table["environment"]} - {POOLED})
    colours = dict(zip([POOLED, *environments], COLOURS * 9, strict=False))
    # A mean of fewer environments than are drawn is not comparable with the others.
    whole = (table["environments"] == len(environments)) & (len(environments) > 1)
    table = table[(table["environment"] != POOLED) | whole]
    failed = count_failed(runs, {*table["agent"], recipe.baseline})
    figure = sheet(PAGE, HEIGHT * len(METRICS) + TITLE + 0.4)
    grid = figure.subplots(len(METRICS), 2, sharey="row", squeeze=False)
    for metric, (by_share, by_signal) in zip(METRICS, grid, strict=True):
        here = table[table["metric"] == metric]
        _draw_points(by_share, here, _places(by_share, here, list(colours)), colours)
        known = here[here["signal"].notna()]
        _draw_points(by_signal, known, _side_by_side(known["signal"]), colours)
        for row in known.to_dict("records"):
            ends, colour = (row["signal_low"], row["signal_high"]), colours[row["environment"]]
            by_signal.hlines(row["share"], *ends, color=colour, linewidth=1)
        by_signal.set_xscale("symlog", linthresh=SMALL)
        by_signal.set_xlim(left=-SMALL / 2)
        for axes in (by_share, by_signal):
            axes.axhspan(-recipe.margin, recipe.margin, color="0.92", linewidth=0, zorder=0)
            axes.axhline(0, color="black", linewidth=0.6)
        by_share.set_title(METRIC_NAMES[metric], loc="left")
        seeds = here.loc[here["environment"] != POOLED, "n_pairs"]
        note = seeds_label(list(seeds)) + failed_note(failed)
        by_share.set_title(note, loc="right", fontsize=7)
        by_share.set_ylabel(recipe.y_label)
    by_share.set_xlabel("share of the gradient that T2 is")
    by_signal.set_xlabel("share that is signal of T2")
    _legend(figure, table, colours)
    figure.suptitle(recipe.title)
    return figure


def _places(axes: Axes, rows: pd.DataFrame, environments: Sequence[str]) -> list[float]:
    """Positions on an axis with 0, the shares in ascending order, and the exact weight."""
    exact = rows["kind"] == EXACT
    ticks = ["0", *(f"{weight:g}" for weight in sorted(rows.loc[~exact, "weight"].unique()))]
    ticks += [EXACT] if exact.any() else []
    axes.set_xticks(range(len(ticks)), ticks)
    axes.set_xlim(-0.5, len(ticks) - 0.5)
    axes.plot(0, 0, color="black", marker="o", **MARK)  # the baseline
    at = rows["weight"].map("{:g}".format).mask(exact, EXACT).map(ticks.index)
    order = [(env, kind) for env in environments for kind in KINDS]
    beside = [order.index(pair) for pair in zip(rows["environment"], rows["kind"], strict=True)]
    arms = list(zip(at, beside, strict=True))
    together = {tick: sorted(other for place, other in arms if place == tick) for tick in at}
    return [
        tick + SPREAD * (together[tick].index(mine) - (len(together[tick]) - 1) / 2)
        for tick, mine in arms
    ]


def _side_by_side(signals: "pd.Series[float]") -> "pd.Series[float]":
    """Positions by signal; agents without signal are drawn side by side around 0."""
    none = signals == 0
    return signals.mask(none, (none.cumsum() - (none.sum() + 1) / 2) * SMALL / 16)


def _draw_points(
    axes: Axes, rows: pd.DataFrame, places: Iterable[float], colours: Mapping[str, str]
) -> None:
    """Draws every agent with its interval."""
    for place, row in zip(places, rows.to_dict("records"), strict=True):
        colour = colours[row["environment"]]
        axes.vlines(place, row["share_low"], row["share_high"], color=colour, linewidth=1)
        axes.plot(place, row["share"], color=colour, marker=KINDS[row["kind"]][0], **MARK)


def _legend(figure: Figure, table: pd.DataFrame, colours: Mapping[str, str]) -> None:
    """Draws the legend: colours of environments, markers of kinds."""
    there = [env for env in colours if (table["environment"] == env).any()]
    handles = [Line2D([], [], color=colours[env], label=label(env)) for env in there]
    handles += [
        Line2D([], [], color="0.4", marker=marker, linestyle="none", label=name)
        for kind, (marker, name) in KINDS.items()
        if (table["kind"] == kind).any()
    ]
    columns = even(len(handles), 4)
    figure.legend(handles=handles, loc="outside lower center", ncols=columns, frameon=False)
