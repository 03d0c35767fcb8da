"""How figures look, and how they become bytes: the same for the same numbers."""

import io
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from matplotlib import style
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

NARROWEST = 3.3  # inches: a column of a two-column page
PAGE = 6.75  # inches: both columns
LEGEND_ENTRY = (1.2, 0.18)  # inches
TITLE = 0.3  # inches
DOTS_PER_INCH = 200
# Seven colours that stay apart in grey and for the colour-blind (after Paul Tol, "medium
# contrast"), dark to light; dashes and markers tell the agents apart where colours do not.
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
# What each format says of itself: neither a date nor a version.
FORMATS: dict[str, dict[str, Any]] = {"png": {"Software": None}, "svg": {"Date": None}}


def images(draw: Callable[[], Figure], formats: Sequence[str] = tuple(FORMATS)) -> dict[str, bytes]:
    """A figure as files, the same bytes every time.

    Args:
        draw: Makes the figure; it is called, and the figure rendered, under `STYLE`.
        formats: Of `FORMATS`.

    Returns:
        Each format's bytes.

    Raises:
        ValueError: A text has mathematics that Matplotlib does not read.
    """
    rendered = {}
    with style.context(STYLE, after_reset=True):
        figure = draw()
        for name in formats:
            image = io.BytesIO()
            figure.savefig(image, format=name, dpi=DOTS_PER_INCH, metadata=FORMATS[name])
            rendered[name] = image.getvalue()
    return rendered


def sheet(width: float, height: float) -> Figure:
    """An empty figure of a size in inches, tied to no window."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def look(index: int, colour: int | None = None) -> dict[str, Any]:
    """Line and marker of the agent that is `index`-th in the legend.

    Args:
        index: From 0 on; the first 45 differ in dashes or marker, whatever their colours.
        colour: Place in `COLOURS`, by default `index`.
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
    """The legend below the panels.

    Args:
        looks: Of the agents that have a curve, see `look`.
        width: Of the figure, inches.

    Attributes:
        height: Inches that it takes.
    """

    def __init__(self, looks: Mapping[str, dict[str, Any]], width: float) -> None:
        self.handles = [Line2D([], [], label=label(agent), **of) for agent, of in looks.items()]
        self.columns = even(len(self.handles), int(width / LEGEND_ENTRY[0]))
        self.height = LEGEND_ENTRY[1] * math.ceil(len(self.handles) / self.columns)

    def place(self, figure: Figure) -> None:
        """Draws it."""
        figure.legend(
            handles=self.handles,
            loc="outside lower center",
            ncols=self.columns,
            frameon=False,
            handlelength=3,
        )


def even(count: int, most: int) -> int:
    """Columns, at most `most`, that fill as few rows as that needs, evenly."""
    return math.ceil(count / math.ceil(count / most))


def label(name: str) -> str:
    """Name of an agent or an environment as figures write it."""
    return name.replace("_", "-")


def seeds_label(counts: Sequence[int]) -> str:
    """The number of seeds of the arms that are drawn together."""
    few, many = min(counts, default=0), max(counts, default=0)
    return f"n = {few}" if few == many else f"n = {few} to {many}"
