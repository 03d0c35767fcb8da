"""Learning curves from a results folder: mean over seeds with a 95 % bootstrap band."""

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import EngFormatter, MaxNLocator

from mujoco_sail.analysis import stats
from mujoco_sail.files import write_bytes
from mujoco_sail.recipes.load import read_recipe, recipe_names
from mujoco_sail.recipes.settings import RecipeError, build, nearest, setting
from mujoco_sail.results.read import RunRecord, agents_in_order, collect

ALL = "all"
PANEL = (2.25, 1.75)  # inches; three panels fill a page of 6.75 inches
NARROWEST = 3.3  # inches: a column of a two-column page
LEGEND_ENTRY = (1.2, 0.18)  # inches
TITLE = 0.3  # inches
DOTS_PER_INCH = 200
RESAMPLING_SEED = 0
# Seven colours that stay apart in grey and for the colour-blind (after Paul Tol, "medium
# contrast"), dark to light; dashes and markers tell the agents apart where colours do not.
COLOURS = ("#000000", "#004488", "#994455", "#997700", "#6699cc", "#ee99aa", "#eecc66")
DASHES: tuple[Any, ...] = ("-", (0, (5, 1.5)), (0, (1, 1)), (0, (4, 1, 1, 1)), (0, (8, 1)))
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">")
STYLE: dict[str, Any] = {
    "axes.labelsize": 8,
    "axes.linewidth": 0.6,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlesize": 8,
    "figure.titlesize": 9,
    "font.family": "DejaVu Sans",  # comes with Matplotlib: the same everywhere
    "font.size": 8,
    "legend.fontsize": 8,
    "lines.linewidth": 1.2,
    "svg.hashsalt": "mujoco-sail",  # names inside the file do not change from run to run
    "xtick.labelsize": 7,
    "xtick.major.width": 0.6,
    "ytick.labelsize": 7,
    "ytick.major.width": 0.6,
}


@dataclass(frozen=True, kw_only=True)
class FigureRecipe:
    """One figure: a panel per environment, a curve per agent."""

    title: str = setting()
    metric: Literal["episode_return", "success_rate"] = setting()
    environments: str = setting()  # names joined by commas, or "all"
    agents: str = setting()  # likewise
    x_label: str = setting()
    y_label: str = setting()
    columns: int = setting(low=1)  # panels in a row, at most


def plot(names: Sequence[str], results: Path, out: Path) -> list[Path]:
    """Draws figures, for `mujoco-sail plot`.

    Args:
        names: Names or paths of figure recipes; all recipes if empty.
        results: Folder that is read.
        out: Folder that is written.

    Returns:
        The files, a png and an svg per figure.

    Raises:
        RecipeError: No such figure, a mistake in its recipe, results that cannot be pooled, or a
            folder that cannot be written.
    """
    figures = []
    for name in names or recipe_names("plots"):
        path, table = read_recipe("plots", name)
        figures.append((path, build(FigureRecipe, table, str(path))))
    runs = [run for run in collect(results) if run.status != "running"]
    files = []
    for path, recipe in figures:
        with style.context(STYLE, after_reset=True):
            figure = draw(recipe, runs, str(path))
            for suffix, metadata in (("png", {"Software": None}), ("svg", {"Date": None})):
                image = io.BytesIO()
                try:
                    figure.savefig(image, format=suffix, dpi=DOTS_PER_INCH, metadata=metadata)
                except ValueError as error:  # mathematics that Matplotlib does not read
                    raise RecipeError(f"{path}: cannot be drawn: {error}") from error
                file = out / f"{path.stem}.{suffix}"
                try:
                    write_bytes(file, image.getvalue())
                except OSError as error:
                    raise RecipeError(f"{file}: cannot be written: {error.strerror}") from error
                files.append(file)
    return files


def draw(recipe: FigureRecipe, runs: Sequence[RunRecord], where: str) -> Figure:
    """Draws one figure.

    Args:
        recipe: What to draw.
        runs: Poolable runs, complete or failed.
        where: The recipe's file, for messages.

    Raises:
        RecipeError: The recipe names what the runs do not have, or nothing is left to draw.
    """
    agents = _choose(recipe.agents, agents_in_order(runs, ""), f"{where}: key 'agents'")
    found = _by_environment([run for run in runs if run.agent in agents], recipe.metric)
    environments = _choose(recipe.environments, list(found), f"{where}: key 'environments'")
    panels = [found[env] for env in environments]
    drawn = {run.agent for panel in panels for run in panel if _has(run, recipe.metric)}
    if not drawn:
        raise RecipeError(f"{where}: no finished run has '{recipe.metric}'")

    columns = _even(len(panels), recipe.columns)
    rows = math.ceil(len(panels) / columns)
    handles = [
        Line2D([], [], label=_label(agent), **_style(index))
        for index, agent in enumerate(agents)
        if agent in drawn
    ]
    width = max(NARROWEST, PANEL[0] * columns)
    entries = _even(len(handles), int(width / LEGEND_ENTRY[0]))
    height = PANEL[1] * rows + TITLE + LEGEND_ENTRY[1] * math.ceil(len(handles) / entries)
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(rows, columns, squeeze=False)
    for index, axes in enumerate(grid.flat):
        if index >= len(panels):
            axes.remove()
            continue
        _panel(axes, panels[index], agents, recipe.metric)
        if index % columns == 0:
            axes.set_ylabel(recipe.y_label)
        if index + columns >= len(panels):
            axes.set_xlabel(recipe.x_label)
    figure.legend(
        handles=handles, loc="outside lower center", ncols=entries, frameon=False, handlelength=3
    )
    figure.suptitle(recipe.title)
    return figure


def _by_environment(runs: Sequence[RunRecord], metric: str) -> dict[str, list[RunRecord]]:
    """The runs of each panel; where all of them failed, the panel says so."""
    panels = {}
    for env in sorted({run.env for run in runs}):
        panel = [run for run in runs if run.env == env]
        if any(_has(run, metric) for run in panel) or all(r.status == "failed" for r in panel):
            panels[env] = panel
    return panels


def _panel(axes: Axes, panel: Sequence[RunRecord], agents: Sequence[str], metric: str) -> None:
    """Draws the curves of one environment."""
    seeds, failures = [], []
    for index, agent in enumerate(agents):
        arm = [run for run in panel if run.agent == agent]
        curves = [run.evaluations for run in arm if _has(run, metric)]
        if failed := sum(run.status == "failed" for run in arm):
            failures.append(f"{_label(agent)}: {failed} of {len(arm)} seeds failed")
        if not curves:
            continue
        seeds.append(len(curves))
        steps = curves[0]["step"].to_numpy()
        values = np.array([curve[metric] for curve in curves])
        low, high = stats.bootstrap_interval(
            [values], stats.mean, np.random.default_rng(RESAMPLING_SEED)
        )
        look = _style(index)
        # Six markers a curve, each agent's a little further on.
        every = max(1, len(steps) // 6)
        axes.fill_between(steps, low, high, color=look["color"], alpha=0.15, linewidth=0)
        axes.plot(
            steps, values.mean(axis=0), markevery=(index * every // len(agents), every), **look
        )
    few, many = min(seeds, default=0), max(seeds, default=0)
    axes.set_title(_label(panel[0].env), loc="left")
    axes.set_title(f"n = {few}" if few == many else f"n = {few} to {many}", loc="right", fontsize=7)
    axes.text(
        1, 0.02, "\n".join(failures), transform=axes.transAxes, ha="right", va="bottom", fontsize=6
    )
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.yaxis.set_major_locator(MaxNLocator(4))
    axes.set_xlim(left=0)


def _style(index: int) -> dict[str, Any]:
    return {
        "color": COLOURS[index % len(COLOURS)],
        "linestyle": DASHES[index % len(DASHES)],
        "marker": MARKERS[index % len(MARKERS)],
        "markersize": 4,
        "markeredgecolor": "white",
        "markeredgewidth": 0.4,
    }


def _has(run: RunRecord, metric: str) -> bool:
    return run.status == "complete" and not bool(run.evaluations[metric].isna().any())


def _even(count: int, most: int) -> int:
    """Columns, at most `most`, that fill as few rows as that needs, evenly."""
    return math.ceil(count / math.ceil(count / most))


def _label(name: str) -> str:
    return name.replace("_", "-")


def _choose(names: str, there: Sequence[str], where: str) -> list[str]:
    """The names of a comma-separated list, or all that are there."""
    if names == ALL:
        return list(there)
    chosen = [name.strip() for name in names.split(",")]
    for name in chosen:
        if name not in there:
            raise RecipeError(f"{where}: nothing to draw of '{name}'; {nearest(name, there)}")
        if chosen.count(name) > 1:
            raise RecipeError(f"{where}: '{name}' is named twice")
    return chosen
