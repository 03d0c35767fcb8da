"""One self-contained page about a results folder: verdict, tables, figures, how it was made."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from mujoco_sail.analysis import across, commands, figures, provenance, tables
from mujoco_sail.analysis.choice import MissingDataError
from mujoco_sail.analysis.provenance import Table
from mujoco_sail.analysis.verdict import verdict
from mujoco_sail.files import write_text
from mujoco_sail.recipes.settings import RecipeError, check_name
from mujoco_sail.results.read import RunRecord, agents_in_order, collect

TEMPLATE = "report.html.jinja"
SIZE = ("width", "height")
POINT = 1.9  # pixels on the page to a point of a figure: letters as large as the page's


@dataclass(frozen=True)
class Drawing:
    """A figure on the page, or why it is not there.

    Attributes:
        name: Of its recipe.
        title: Its title.
        caption: What is drawn, and what the intervals are.
        svg: The figure, fit to stand in HTML beside others; empty if it is missing.
        missing: Why, one line; empty if it is there.
    """

    name: str
    title: str
    caption: str
    svg: Markup
    missing: str


def report(results: Path, out: Path, baseline: str) -> None:
    """Writes the page, for `mujoco-sail report`.

    Args:
        results: Folder that is read.
        out: File that is written.
        baseline: Agent that effects are measured against.

    Raises:
        RecipeError: A baseline that is no name, results that cannot be pooled, or a file that
            cannot be written.
    """
    check_name(baseline, "--baseline")
    page = render(collect(results), results, baseline)
    try:
        write_text(out, page)
    except OSError as error:
        raise RecipeError(f"{out}: cannot be written: {error.strerror}") from error


def render(runs: Sequence[RunRecord], results: Path, baseline: str) -> str:
    """The page, the same for the same runs.

    Args:
        runs: Poolable runs of any status.
        results: Folder that they are in, for the commands.
        baseline: Agent that effects are measured against.
    """
    environment = Environment(
        loader=PackageLoader("mujoco_sail", "analysis"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template(TEMPLATE).render(_content(runs, results, baseline))


def _content(runs: Sequence[RunRecord], results: Path, baseline: str) -> dict[str, Any]:
    """What the template shows."""
    complete = [run for run in runs if run.status == "complete"]
    effects = across.effects(runs, baseline)
    scores, no_scores = _scores(runs)
    drawings = _drawings(runs, baseline)
    return {
        "environments": sorted({run.env for run in runs}),
        "agents": agents_in_order(runs, baseline),
        "finished": len(complete),
        "baseline": baseline,
        "verdict": verdict(effects, baseline),
        "comparison": tables.cells(tables.comparison(runs, baseline)),
        "texts": tables.TEXTS,
        "definitions": " ".join(tables.definitions(runs, baseline)),
        "no_scores": no_scores,
        "across": _across(scores, effects, baseline),
        "labels": [] if scores is None else _labels(runs),
        "figures": [drawing for drawing in drawings if not drawing.missing],
        "missing": [drawing for drawing in drawings if drawing.missing],
        "made": provenance.environments(runs),
        "arms": provenance.arms(runs),
        "versions": provenance.versions(runs),
        "failed": [(_place(run), tables.reason(run)) for run in runs if run.status == "failed"],
        "running": [_place(run) for run in runs if run.status == "running"],
        "analyses": commands.analysis_commands(results, baseline),
        "trainings": commands.run_commands(runs, results),
    }


def _place(run: RunRecord) -> str:
    return f"{run.env}/{run.agent}/seed_{run.seed}"


def _scores(runs: Sequence[RunRecord]) -> tuple[pd.DataFrame | None, str]:
    """Normalised scores, or None and why there are none."""
    try:
        return across.normalised_scores(runs), ""
    except RecipeError as error:
        return None, " ".join(str(error).splitlines())


def _across(scores: pd.DataFrame | None, effects: pd.DataFrame, baseline: str) -> Table:
    """A row per agent over all environments: its scores, where there are any, and effects."""
    together = effects[effects["environment"] == across.POOLED].set_index("agent")
    frame = (
        pd.DataFrame({"agent": together.index})
        if scores is None
        else across.pooled(scores, baseline)
    )
    if frame.empty:
        return []
    effect = [f"pooled d vs {baseline} [95 % interval]", "p", "p (Holm)"]
    normalised = ["IQM score [95 % interval]", "mean score"]
    normalised.append(f"P(better than {baseline}) [95 % interval]")
    rows = [["agent", *([] if scores is None else normalised), *effect]]
    for row in frame.to_dict("records"):
        cells = (
            []
            if scores is None
            else [
                tables.interval(row["iqm"], row["iqm_low"], row["iqm_high"], 2),
                tables.number(row["mean"], 2),
                tables.interval(
                    row["improvement"], row["improvement_low"], row["improvement_high"], 2
                ),
            ]
        )
        if row["agent"] in together.index:
            d = together.loc[row["agent"]]
            cells.append(tables.interval(d["d"], d["d_low"], d["d_high"], 2))
            cells += [tables.number(d[key], 4) for key in ("p", "p_holm")]
        else:
            cells += [tables.NONE] * len(effect)
        rows.append([str(row["agent"]), *cells])
    return rows


def _labels(runs: Sequence[RunRecord]) -> Table:
    """Labels until the return reaches half of what SAC gains, by environment and agent."""
    rows = [["environment", "agent", "labels, median over seeds", "seeds that got there"]]
    for row in across.labels_to_reach(runs).to_dict("records"):
        if not pd.isna(row["labels"]):
            median = "not reached" if row["labels"] == float("inf") else f"{row['labels']:.0f}"
            reached = f"{row['reached']} of {row['seeds']}"
            rows.append([str(row["environment"]), str(row["agent"]), median, reached])
    return rows if len(rows) > 1 else []


def _drawings(runs: Sequence[RunRecord], baseline: str) -> list[Drawing]:
    """All figures of the suite."""
    drawings = []
    for path, recipe in figures.load():
        svg, missing = Markup(), ""
        try:
            (image,) = figures.render(
                figures.against(recipe, baseline), runs, path, ["svg"]
            ).values()
            svg = inline(image.decode(), path.stem, recipe.title)
        except MissingDataError as error:
            missing = " ".join(str(error).splitlines()).removeprefix(f"{path}: ")
        drawings.append(Drawing(path.stem, recipe.title, recipe.caption, svg, missing))
    return drawings


def inline(svg: str, name: str, title: str) -> Markup:
    """An SVG file of Matplotlib's as an element of HTML.

    Its ids get a prefix, for they hold in the whole page; what is outside of the element, and
    what it says of itself with addresses, goes.

    Args:
        svg: The file's text.
        name: Prefix, unlike those of the other figures.
        title: What a screen reader says.
    """
    text = svg[svg.index("<svg") :]
    text = re.sub(r"\s*<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{name}-", text)
    width, height = (float(_attribute(text, side).removesuffix("pt")) for side in SIZE)
    label = Markup('<svg role="img" aria-label="{}" width="{:.0f}" height="{:.0f}" viewBox="{}">')
    head = label.format(title, width * POINT, height * POINT, _attribute(text, "viewBox"))
    return head + Markup(text[text.index(">") + 1 :].rstrip())


def _attribute(svg: str, name: str) -> str:
    """The value of the first attribute of this name."""
    return svg.split(f' {name}="', 1)[1].split('"', 1)[0]
