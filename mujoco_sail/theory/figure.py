"""First figure of `mujoco-sail theory`: curvature, PL ratio, convergence and bias."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator, PercentFormatter

from mujoco_sail.analysis.figures.style import images, sheet
from mujoco_sail.theory.claims import FIT_FACTOR, Rate, anchor_of
from mujoco_sail.theory.experiment import Tables

FLOOR = 1e-10  # smaller PL ratios are drawn as 0
SIZE = (6.75, 5.4)  # inches, the width of a page with two columns
# Dark and light colours, which differ also in greyscale.
DARK: dict[str, Any] = {"color": "#004488", "marker": "o", "markersize": 3.5}
LIGHT: dict[str, Any] = {"color": "#cc8844", "marker": "s", "markersize": 3.5, "linestyle": "--"}
PLAIN: dict[str, Any] = {"color": "#555555", "marker": "^", "markersize": 3.5, "linestyle": ":"}


def render(tables: Tables, rates: dict[float, Rate], radius: float) -> dict[str, bytes]:
    """Renders the figure as png and svg; equal tables give equal bytes.

    Args:
        tables: Tables of `experiment.run`.
        rates: Result of `claims.rate_of` for every gamma.
        radius: Radius of the ball.
    """
    return images(lambda: draw(tables, rates, radius))


def draw(tables: Tables, rates: dict[float, Rate], radius: float) -> Figure:
    """Draws the four panels."""
    figure = sheet(*SIZE)
    ((curvature, ratio), (convergence, price)) = figure.subplots(2, 2)
    _curvature(curvature, tables["curvature"])
    _ratio(ratio, tables["pl_ratio"])
    anchor = anchor_of(tables["curvature"])
    _convergence(convergence, rates[0.0], rates[max(rates) if anchor is None else anchor])
    _price(price, tables["bias"], rates, radius)
    for axes in (curvature, ratio, price):
        _gamma_axis(axes, sorted(rates))
    return figure


def _curvature(axes: Axes, table: pd.DataFrame) -> None:
    gamma, middle = _over_problems(table, "largest_eigenvalue_50%")
    low = _over_problems(table, "largest_eigenvalue_5%")[1]["median"]
    high = _over_problems(table, "largest_eigenvalue_95%")[1]["median"]
    top = _over_problems(table, "largest_eigenvalue_max")[1]["max"]
    axes.axhline(0, color="black", linewidth=0.6)
    axes.fill_between(gamma, low, high, color=DARK["color"], alpha=0.2, linewidth=0)
    axes.plot(gamma, middle["median"], label="median, 5 to 95 % of the ball", **DARK)
    axes.plot(gamma, top, label="largest, of all problems", **LIGHT)
    share = _over_problems(table, "share_not_concave")[1]["median"]
    for x, value in zip(gamma, share, strict=True):
        axes.annotate(
            f"{value:.0%}",
            (x, 1.0),
            xycoords=("data", "axes fraction"),
            ha="center",
            va="bottom",
            fontsize=6.5,
        )
    axes.set_yscale("symlog", linthresh=0.01)
    axes.set_ylabel("largest eigenvalue of the Hessian of $J_\\gamma$")
    axes.set_title("(a) curvature; above: share of the ball not concave", loc="left", pad=14)
    axes.legend(loc="lower left", frameon=False, fontsize=7)


def _ratio(axes: Axes, table: pd.DataFrame) -> None:
    for column, look, label in (
        ("worst_sampled", LIGHT, "of sampled points"),
        ("worst_found_projected", DARK, "found by search"),
    ):
        gamma, values = _over_problems(table, column)
        values = values.clip(lower=FLOOR)
        axes.fill_between(
            gamma, values["min"], values["max"], color=look["color"], alpha=0.2, linewidth=0
        )
        axes.plot(gamma, values["median"], label=label, **look)
    axes.set_yscale("log")
    axes.set_ylim(bottom=FLOOR / 2)
    axes.set_yticks(
        [FLOOR, *np.logspace(-8, 0, 5)], ["0", *(f"$10^{{{n}}}$" for n in range(-8, 2, 2))]
    )
    axes.yaxis.set_minor_locator(NullLocator())
    axes.set_ylabel(r"$|\nabla J_\gamma|^2 \; / \; 2 (J_\gamma^* - J_\gamma)$")
    axes.set_title("(b) worst PL ratio over the ball", loc="left", pad=14)
    axes.legend(loc="lower right", frameon=False, fontsize=7)


def _convergence(axes: Axes, sail: Rate, revkl: Rate) -> None:
    for rate, look, name in (
        (sail, LIGHT, "SAIL"),
        (revkl, DARK, f"SAIL-RevKL, $\\gamma$ = {revkl.gamma:g}"),
    ):
        axes.plot(rate.samples, rate.suboptimality, color=look["color"], alpha=0.25, linewidth=0.4)
        axes.plot(
            rate.samples,
            rate.suboptimality.mean(1),
            label=f"{name}\nslope {rate.slope:.2f} [{rate.low:.2f}, {rate.high:.2f}]",
            **{**look, "markevery": 4},
        )
    end, height = revkl.samples[-1], 4 * revkl.suboptimality[-1].mean()
    middle = end / np.sqrt(FIT_FACTOR)
    guide = np.array([end / FIT_FACTOR, end])
    axes.plot(guide, height * end / guide, color="black", linewidth=0.8)
    axes.annotate("slope $-1$", (middle, height * end / middle), fontsize=7, va="bottom")
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("preference samples")
    axes.set_ylabel("suboptimality $J_\\gamma^* - J_\\gamma$")
    axes.set_title("(c) projected stochastic ascent", loc="left")
    axes.legend(loc="lower left", frameon=False, fontsize=7)


def _price(axes: Axes, table: pd.DataFrame, rates: dict[float, Rate], radius: float) -> None:
    gamma, loss = _over_problems(table, "loss_share")
    first = table[table["gamma"] == 0].sort_values("seed")
    gain = first["maximum"].to_numpy() + np.log(2)  # J(pi_ref) = log sigmoid(0)
    reached = np.array([rates[g].loss[-1] / gain for g in gamma])
    axes.fill_between(gamma, loss["min"], loss["max"], color=DARK["color"], alpha=0.2, linewidth=0)
    axes.plot(gamma, loss["median"], label="loss of J, exact", **DARK)
    axes.plot(gamma, np.median(reached, 1), label="loss of J, by samples", **LIGHT)
    distance = _over_problems(table, "distance")[1]["median"] / radius
    axes.plot(gamma, distance, label="distance / radius", **PLAIN)
    axes.yaxis.set_major_formatter(PercentFormatter(1))
    axes.set_ylabel("share")
    axes.set_title("(d) the price of the anchor", loc="left")
    axes.legend(loc="lower right", frameon=False, fontsize=7)


def _gamma_axis(axes: Axes, gammas: list[float]) -> None:
    axes.set_xscale("symlog", linthresh=gammas[1], linscale=0.5)
    axes.set_xlim(-0.2 * gammas[1], 1.3 * gammas[-1])
    axes.set_xticks(gammas, [f"{gamma:g}" for gamma in gammas])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel("$\\gamma$")


def _over_problems(table: pd.DataFrame, column: str) -> tuple[np.ndarray, pd.DataFrame]:
    """The gammas and, for each, minimum, median and maximum over problems."""
    values = table.groupby("gamma")[column].agg(["min", "median", "max"])
    return values.index.to_numpy(), values
