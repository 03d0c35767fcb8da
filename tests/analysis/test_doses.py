"""Dose-response figure: differences against the weight of T2 and against its signal."""

from __future__ import annotations

import math
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib as mpl
import pytest
from helpers.results import write_run

from mujoco_sail.analysis.choice import MissingDataError, NotApplicableError
from mujoco_sail.analysis.figures import doses, drawing
from mujoco_sail.results.pooling import collect

# Arms: unit, weight and control of T2; returns of two seeds, signal of their fits.
ARMS: dict[str, tuple[str, float, str, tuple[float, float], tuple[float, float]]] = {
    "s_0": ("share", 0.0, "none", (20, 40), (0, 0)),
    "s_0.1": ("share", 0.1, "none", (30, 70), (0.02, 0.06)),
    "permuted_0.1": ("share", 0.1, "permuted", (20, 20), (-0.3, 0.1)),
    "exact": ("exact", 1.0, "none", (0, 10), (4, 14)),
    "fixed": ("fixed", 5.0, "none", (1, 2), (0, 0)),
}


SPREAD = 0.01  # between the signals of a seed and their mean over seeds


def make(results: Path, env: str, gain: float = 100) -> None:
    """random has 0, sac the gain; a run logs three fits and one additional row."""
    for agent, mean in (("random", 0), ("sac", gain)):
        for seed, off in enumerate((-5, 5)):
            write_run(results, env, agent, seed, (mean + off,) * 3, answers=())
    for agent, (unit, weight, control, finals, signals) in ARMS.items():
        for seed, final in enumerate(finals):
            fits = [fit + (2 * seed - 1) * SPREAD for fit in signals]
            training = {"step": range(5), "t2_signal": ("", *fits, fits[1], 99.0)}
            training["labels"] = (1, 2, 3, 3, 3)
            changes = {"lambda": weight, "lambda_unit": unit, "t2_control": control}
            write_run(
                results,
                env,
                agent,
                seed,
                (final,) * 3,
                training=training,
                **{f"agent.{key}": value for key, value in changes.items()},
            )


def row(results: Path, agent: str, env: str = "ant", metric: str = "auc") -> dict[Any, Any]:
    table = doses.responses(collect(results), "s_0", 0.1)
    where = (table["agent"] == agent) & (table["environment"] == env) & (table["metric"] == metric)
    (found,) = table[where].to_dict("records")
    return found


def test_an_arm_has_its_difference_weight_and_kind(results: Path) -> None:
    make(results, "ant")
    kinds = {"s_0.1": ("none", 0.1), "permuted_0.1": ("permuted", 0.1), "exact": ("exact", 1)}
    shares = {"s_0.1": 0.2, "permuted_0.1": -0.1, "exact": -0.25}
    for agent, kind in kinds.items():
        found = row(results, agent)
        assert (found["kind"], found["weight"]) == kind
        assert found["share"] == pytest.approx(shares[agent])
    agents = doses.responses(collect(results), "s_0", 0.1)["agent"]
    assert {*agents} == {*kinds}  # neither the baseline nor a weight of another unit


def test_the_signal_is_the_root_of_the_mean_over_fits_each_counted_once(
    results: Path,
) -> None:
    make(results, "ant")
    assert row(results, "s_0.1")["signal"] == pytest.approx(0.2)  # 0.02 and 0.06
    assert row(results, "permuted_0.1")["signal"] == 0  # -0.3 and 0.1
    assert row(results, "exact")["signal"] == pytest.approx(3)
    for path in results.glob("ant/exact/*/training.csv"):
        path.unlink()
    assert math.isnan(row(results, "exact")["signal"])


def test_the_signal_has_an_interval_over_seeds(results: Path) -> None:
    make(results, "ant")
    found = row(results, "s_0.1")
    half = 12.7062 * SPREAD  # t of one degree of freedom, times a standard error of SPREAD
    assert found["signal_high"] == pytest.approx(math.sqrt(0.04 + half), rel=1e-4)
    assert found["signal_low"] == 0  # 0.04 - half is negative


def test_over_several_environments_the_shares_are_pooled(results: Path) -> None:
    make(results, "ant")
    make(results, "hopper", gain=50)
    pooled = row(results, "s_0.1", "pooled", "final")
    assert pooled["share"] == pytest.approx((0.2 + 0.4) / 2)
    assert math.isnan(pooled["signal"])


# --- the figure --------------------------------------------------------------------------------


def draw(results: Path, **changes: Any) -> mpl.figure.Figure:
    ((path, recipe),) = drawing.load(["doses"])
    return drawing.draw(replace(recipe, **changes), collect(results), results, path.name)


def points(axes: mpl.axes.Axes) -> list[tuple[str, float, float]]:
    found = [line for line in axes.lines if line.get_marker() != "None"]
    return [(line.get_marker(), *map(float, line.get_xydata()[0])) for line in found]


def test_agents_are_drawn_at_their_share_and_at_their_signal(results: Path) -> None:
    make(results, "ant")
    figure = draw(results)
    by_share, by_signal = figure.axes[:2]
    assert [text.get_text() for text in by_share.get_xticklabels()] == ["0", "0.1", "exact"]
    at = {(marker, round(x)): y for marker, x, y in points(by_share)}
    expected = {("o", 0): 0, ("o", 1): 0.2, ("X", 1): -0.1, ("D", 2): -0.25}
    assert at == pytest.approx(expected)
    signals = {marker: (x, y) for marker, x, y in points(by_signal)}
    assert signals["o"] == pytest.approx((0.2, 0.2))
    assert signals["D"] == pytest.approx((3, -0.25))
    assert signals["X"] == pytest.approx((0, -0.1))
    drawn = [line.get_paths()[0].vertices for line in by_signal.collections]
    ends = [(left, right) for (left, y), (right, end) in drawn if y == end and round(y, 6) == -0.25]
    half = 12.7062 * SPREAD
    assert ends == [pytest.approx((math.sqrt(9 - half), math.sqrt(9 + half)), rel=1e-4)]
    texts = [text.get_text() for text in figure.legends[0].get_texts()]
    assert texts == ["ant", "T2", "placebo: permuted", "T2, exact weight"]


def test_environments_and_their_mean_differ_in_colour_and_position(
    results: Path,
) -> None:
    make(results, "ant")
    make(results, "hopper")
    figure = draw(results)
    colours = [line.get_color() for line in figure.legends[0].get_lines()[:3]]
    texts = [text.get_text() for text in figure.legends[0].get_texts()[:3]]
    assert texts == ["pooled", "ant", "hopper"]
    assert len(set(colours)) == 3
    by_share, by_signal = figure.axes[:2]
    drawn = [line for line in by_share.lines if line.get_marker() != "None"][1:]
    assert [line.get_color() for line in drawn] == [
        colours[texts.index(env)] for env in ["ant"] * 3 + ["hopper"] * 3 + ["pooled"] * 3
    ]
    assert len({x for _, x, _ in points(by_share)}) == 1 + 9
    none = [x for marker, x, _ in points(by_signal) if marker == "X"]
    assert len(set(none)) == 2
    assert sum(none) == pytest.approx(0)


def test_failed_seeds_are_named_and_a_mean_of_fewer_environments_is_not_drawn(
    results: Path,
) -> None:
    make(results, "ant")
    make(results, "hopper")
    shutil.rmtree(results / "hopper/exact")
    changes = {"agent.lambda": 1.0, "agent.lambda_unit": "exact", "agent.t2_control": "none"}
    for seed in range(2):
        write_run(results, "hopper", "exact", seed, status="failed", **changes)
    by_share = draw(results).axes[0]
    assert by_share.get_title("right") == "n = 2, 2 failed"
    assert [marker for marker, _, _ in points(by_share)].count("D") == 1  # on ant
    assert [marker for marker, _, _ in points(by_share)].count("X") == 3


def test_the_figure_needs_the_baseline_and_a_gain_of_sac(
    results: Path,
) -> None:
    make(results, "ant")
    make(results, "hopper")
    with pytest.raises(NotApplicableError, match="no run of s_1"):
        draw(results, baseline="s_1")
    for path in results.glob("ant/sac/*/*"):
        path.unlink()
    for path in results.glob("ant/sac/*"):
        path.rmdir()
    with pytest.raises(
        MissingDataError, match=r"is defined of ant/exact, ant/permuted_0\.1, ant/s_0\.1; it"
    ):
        draw(results)


def test_in_a_report_the_margin_is_the_requested_one() -> None:
    ((_, recipe),) = drawing.load(["doses"])
    assert drawing.against(recipe, "sail", 0.3) == replace(recipe, margin=0.3)
    assert f"the agent without T2 ({recipe.baseline})" in recipe.caption
