"""One self-contained page about a results folder: verdict, tables, figures, how it was made."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from mujoco_sail.analysis import (
    across,
    commands,
    paired,
    provenance,
    tables,
    tables_across,
    tables_paired,
)
from mujoco_sail.analysis.choice import MissingDataError, NotApplicableError
from mujoco_sail.analysis.figures import drawing
from mujoco_sail.analysis.tables_text import Cells
from mujoco_sail.analysis.verdict import verdicts
from mujoco_sail.results.pooling import collect
from mujoco_sail.results.read import RunRecord, agents_in_order
from mujoco_sail.system.errors import UserError
from mujoco_sail.system.files import write_text

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


def report(results: Path, out: Path, baseline: str, margin: float) -> None:
    """Writes the page, for `mujoco-sail report`.

    Args:
        results: Folder that is read.
        out: File that is written.
        baseline: Agent that effects are measured against.
        margin: Of equivalence, a share of the gain of `sac`.

    Raises:
        UserError: An unknown baseline, results that cannot be pooled, or a file that
            cannot be written.
    """
    runs = collect(results)
    tables.check_baseline(baseline, runs)
    page = render(runs, results, baseline, margin)
    try:
        write_text(out, page)
    except OSError as error:
        raise UserError(f"{out}: cannot be written: {error.strerror}") from error


def render(runs: Sequence[RunRecord], results: Path, baseline: str, margin: float) -> str:
    """The page, the same for the same runs.

    Args:
        runs: Poolable runs of any status.
        results: Folder that they are in, for the commands.
        baseline: Agent that effects are measured against.
        margin: Of equivalence, a share of the gain of `sac`.
    """
    environment = Environment(
        loader=PackageLoader("mujoco_sail", "analysis"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template(TEMPLATE).render(_content(runs, results, baseline, margin))


def _content(
    runs: Sequence[RunRecord], results: Path, baseline: str, margin: float
) -> dict[str, Any]:
    """What the template shows."""
    differences = paired.compare(runs, baseline, margin)
    is_pooled = differences["environment"] == across.POOLED
    effects = across.effects(runs, baseline)
    over_all, by_environment, no_scores = _across(runs, effects, baseline)
    drawings = _drawings(runs, results, baseline)
    return {
        "environments": sorted({run.env for run in runs}),
        "agents": agents_in_order(runs, baseline),
        "finished": sum(run.status == "complete" for run in runs),
        "baseline": baseline,
        "verdicts": verdicts(runs, differences, baseline, margin),
        "comparison": tables.cells(tables.comparison(runs, baseline)),
        "definitions": [*tables.definitions(baseline), *tables.lacking(runs, baseline)],
        "paired": tables_paired.cells(differences[~is_pooled]),
        "paired_over_all": tables_paired.cells(differences[is_pooled]),
        "paired_definitions": tables_paired.footer(differences, baseline, margin),
        "no_scores": no_scores,
        "over_all": over_all,
        "by_environment": by_environment,
        "across_definitions": tables_across.definitions(baseline),
        "figures": [drawing for drawing in drawings if not drawing.missing],
        "missing": [drawing for drawing in drawings if drawing.missing],
        "made": provenance.environments(runs),
        "arms": provenance.arms(runs),
        "versions": provenance.versions(runs),
        "failed": [
            (tables.place(run), tables.reason(run)) for run in runs if run.status == "failed"
        ],
        "running": [tables.place(run) for run in runs if run.status == "running"],
        "analyses": commands.analysis_commands(results, baseline, margin),
        "trainings": commands.run_commands(runs, results),
    }


def _across(
    runs: Sequence[RunRecord], effects: pd.DataFrame, baseline: str
) -> tuple[Cells, Cells, str]:
    """The tables over all and by each environment, and why there are no scores if so.

    Without scores the first is empty, and the second has the pooled effects too.
    """
    try:
        labels = across.labels_to_reach(runs)
        over_all = tables_across.summary(runs, effects, labels, baseline)
    except UserError as error:
        each = effects.assign(labels=np.nan, reached=0)
        return [], tables_across.single_cells(each, baseline), " ".join(str(error).splitlines())
    each = tables_across.single(runs, effects, labels, baseline)
    cells = tables_across.single_cells(each, baseline)
    return tables_across.summary_cells(over_all), cells, ""


def _drawings(runs: Sequence[RunRecord], results: Path, baseline: str) -> list[Drawing]:
    """All figures of the suite that apply to such results."""
    drawings = []
    for path, recipe in drawing.load():
        svg, missing = Markup(), ""
        try:
            (image,) = drawing.render(
                drawing.against(recipe, baseline), runs, results, path, ["svg"]
            ).values()
            svg = inline(image.decode(), path.stem, recipe.title)
        except NotApplicableError:
            continue
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
