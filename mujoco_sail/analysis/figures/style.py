"""Style of figures, and reproducible files: equal numbers give equal bytes."""

import io
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from matplotlib import rcParams, style
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from mujoco_sail.analysis.figures import fonts

NARROWEST = 3.3  # inches, width of a column of a two-column page
PAGE = 6.75  # inches, width of both columns
LEGEND_ENTRY = (1.2, 0.18)  # inches, width and height
TITLE = 0.3  # inches, height
DOTS_PER_INCH = 200
# Seven colours from dark to light that differ in greyscale and for colour-blind readers (after
# Paul Tol, "medium contrast"). Agents of the same colour differ in dashes and markers.
COLOURS = ("#000000", "#004488", "#994455", "#997700", "#6699cc", "#ee99aa", "#eecc66")
DASHES: tuple[Any, ...] = ("-", (0, (5, 1.5)), (0, (1, 1)), (0, (4, 1, 1, 1)), (0, (8, 1)))
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">")
METRIC_NAMES = {"auc": "area under the curve", "final": "final return"}
STYLE: dict[str, Any] = {
    "axes.labelsize": 8,
    "axes.linewidth": 0.6,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlesize": 8,
    "figure.titlesize": 9,
    "font.family": fonts.OWN,
    "font.size": 8,
    "legend.fontsize": 8,
    "lines.linewidth": 1.2,
    "svg.hashsalt": "mujoco-sail",  # fixed ids inside the file
    "xtick.labelsize": 7,
    "xtick.major.width": 0.6,
    "ytick.labelsize": 7,
    "ytick.major.width": 0.6,
}
# Metadata of each format, without date and version.
FORMATS: dict[str, dict[str, Any]] = {"png": {"Software": None}, "svg": {"Date": None}}


class FaultyTextError(ValueError):
    """Error when a finished figure cannot be saved."""


def images(
    draw: Callable[[], Figure],
    formats: Sequence[str] = tuple(FORMATS),
    say: Callable[[str], None] = lambda _: None,
) -> dict[str, bytes]:
    """Renders a figure reproducibly.

    Args:
        draw: Function that makes the figure; it is called, and the figure rendered, with `STYLE`.
        formats: Names in `FORMATS`.
        say: Called with a line about letters that no font of this system has.

    Returns:
        The bytes of each format.

    Raises:
        FaultyTextError: Matplotlib cannot parse the mathematics in a text.
    """
    rendered = {}
    with style.context(STYLE, after_reset=True), warnings.catch_warnings():
        figure = draw()
        if letters := fonts.lacking(figure):
            others, missing = fonts.families(letters)
            rcParams["font.family"] = [fonts.OWN, *others]
            figure = draw()
            if missing:
                warnings.filterwarnings("ignore", "Glyph", UserWarning)  # said in one line
                say(f"boxes stand for letters that no font here has: {' '.join(sorted(missing))}")
        for name in formats:
            image = io.BytesIO()
            try:
                figure.savefig(image, format=name, dpi=DOTS_PER_INCH, metadata=FORMATS[name])
            except ValueError as error:
                raise FaultyTextError(str(error)) from error
            rendered[name] = image.getvalue()
    return rendered


def sheet(width: float, height: float) -> Figure:
    """Empty figure of a size in inches, without a window."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def look(index: int, colour: int | None = None) -> dict[str, Any]:
    """Line and marker style of an agent.

    Args:
        index: Position in the legend, from 0. The first 45 styles differ in dashes or marker.
        colour: Index in `COLOURS`, by default `index`.
    """
    return {
        "color": COLOURS[(index if colour is None else colour) % len(COLOURS)],
        "linestyle": DASHES[index % len(DASHES)],
        "marker": MARKERS[index % len(MARKERS)],
        "markersize": 4,
        "markeredgecolor": "white",
        "markeredgewidth": 0.4,
    }


class Legend:
    """Legend below the panels.

    Args:
        looks: Styles of the agents that have a curve, see `look`.
        width: Width of the figure, inches.

    Attributes:
        height: Height of the legend, inches.
    """

    def __init__(self, looks: Mapping[str, dict[str, Any]], width: float) -> None:
        self.handles = [Line2D([], [], label=label(agent), **of) for agent, of in looks.items()]
        self.columns = even(len(self.handles), int(width / LEGEND_ENTRY[0]))
        self.height = LEGEND_ENTRY[1] * math.ceil(len(self.handles) / self.columns)

    def place(self, figure: Figure) -> None:
        """Draws the legend."""
        figure.legend(
            handles=self.handles,
            loc="outside lower center",
            ncols=self.columns,
            frameon=False,
            handlelength=3,
        )


def even(count: int, most: int) -> int:
    """Number of columns, at most `most`, that fills the smallest number of rows evenly."""
    return math.ceil(count / math.ceil(count / most))


def label(name: str) -> str:
    """Display name of an agent or an environment."""
    return name.replace("_", "-")


def seeds_label(counts: Sequence[int]) -> str:
    """Text with the number of seeds, or its range."""
    few, many = min(counts, default=0), max(counts, default=0)
    return f"n = {few}" if few == many else f"n = {few} to {many}"
