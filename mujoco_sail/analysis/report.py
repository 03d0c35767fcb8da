"""Report on a results folder: one self-contained HTML page with verdict, tables and figures."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from mujoco_sail.agents.t2_share import negligible_t2
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
from mujoco_sail.results.pooling import collect, training_tables
from mujoco_sail.results.read import RunRecord, agents_in_order, failures
from mujoco_sail.system.errors import UserError
from mujoco_sail.system.files import write_text

TEMPLATE = "report.html.jinja"
SIZE = ("width", "height")
SHARE = "t2_share"  # column of training.csv: norm of the weighted T2 over that of T1
POINT = 1.9  # pixels per point of a figure, so that its text has the size of the page's text


@dataclass(frozen=True)
class Drawing:
    """Figure on the page, or the reason why it is missing.

    Attributes:
        name: Name of the recipe.
        title: Title.
        caption: Caption that explains the figure and its intervals.
        svg: The figure as an inline HTML element; empty if it is missing.
        missing: Reason in one line; empty if the figure is present.
    """

    name: str
    title: str
    caption: str
    svg: Markup
    missing: str


Say = Callable[[str], None]


def report(results: Path, out: Path, baseline: str, margin: float, say: Say) -> None:
    """Writes the report, for `mujoco-sail report`.

    Args:
        results: Results folder.
        out: HTML file to write.
        baseline: Agent that the others are compared with.
        margin: Margin of equivalence, as a share of the gain of `sac`.
        say: Called with a line about letters that no font has.

    Raises:
        UserError: The baseline is unknown, or the results cannot be pooled.
        WriteError: The file cannot be written.
    """
    runs = collect(results)
    tables.check_baseline(baseline, runs)
    page = render(runs, results, baseline, margin, say)
    write_text(out, page)


def render(
    runs: Sequence[RunRecord],
    results: Path,
    baseline: str,
    margin: float,
    say: Say = lambda _: None,
) -> str:
    """Renders the report as HTML; equal runs give equal text.

    Args:
        runs: Poolable runs of any status.
        results: Folder of the runs, for the commands.
        baseline: Agent that the others are compared with.
        margin: Margin of equivalence, as a share of the gain of `sac`.
        say: See `report`.
    """
    environment = Environment(
        loader=PackageLoader("mujoco_sail", "analysis"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template(TEMPLATE).render(_content(runs, results, baseline, margin, say))


def _content(
    runs: Sequence[RunRecord], results: Path, baseline: str, margin: float, say: Say
) -> dict[str, Any]:
    """Variables of the template."""
    single = paired.by_environment(runs, baseline, margin)
    drawings = _drawings(runs, results, baseline, margin, say)
    together = _pooled(runs, baseline, margin)
    poolable = not together["not_pooled"]
    return {
        **together,
        "environments": sorted({run.env for run in runs}),
        "agents": agents_in_order(runs, baseline),
        "finished": sum(run.status == "complete" for run in runs),
        "baseline": baseline,
        "small_terms": small_terms(runs),
        "comparison": tables.cells(tables.comparison(runs, baseline)),
        "definitions": [*tables.definitions(baseline), *tables.lacking(runs, baseline)],
        "paired": tables_paired.cells(single),
        "paired_definitions": tables_paired.footer(single, baseline, margin),
        "figures": [drawing for drawing in drawings if not drawing.missing],
        "missing": [drawing for drawing in drawings if drawing.missing],
        "made": provenance.environments(runs),
        "arms": provenance.arms(runs),
        "versions": provenance.versions(runs),
        "failed": [
            (tables.place(run), tables.reason(run)) for run in runs if run.status == "failed"
        ],
        "running": [tables.place(run) for run in runs if run.status == "running"],
        "analyses": commands.analysis_commands(results, baseline, margin, poolable=poolable),
        "trainings": commands.run_commands(runs, results),
    }


def _pooled(runs: Sequence[RunRecord], baseline: str, margin: float) -> dict[str, Any]:
    """Variables of the template about all environments; only a reason if they cannot be pooled."""
    try:
        differences = paired.compare(runs, baseline, margin)
    except UserError as error:
        reason = " ".join(str(error).splitlines())
        return {"not_pooled": reason, "verdicts": [f"No verdict over all environments: {reason}."]}
    effects = across.effects(runs, baseline)
    over_all, by_environment, no_scores = _across(runs, effects, baseline)
    together = differences[differences["environment"] == across.POOLED]
    return {
        "not_pooled": "",
        "verdicts": verdicts(runs, differences, baseline, margin),
        "paired_over_all": tables_paired.cells(together),
        "no_scores": no_scores,
        "over_all": over_all,
        "by_environment": by_environment,
        "across_definitions": tables_across.definitions(baseline),
    }


def small_terms(runs: Sequence[RunRecord]) -> list[str]:
    """A line for each agent and environment with complete runs whose T2 hardly acts.

    Older runs, whose `training.csv` has no such column, are left out.

    Raises:
        UserError: A damaged table of training.
    """
    arms: dict[tuple[str, str], list[RunRecord]] = {}
    for run in runs:
        if run.status == "complete" and run.table["agent"].get("lambda"):
            arms.setdefault((run.env, run.agent), []).append(run)
    lines = []
    for (env, agent), arm in arms.items():
        shares = [table[SHARE] for table in training_tables(arm) if SHARE in table]
        # Without a value there was no fit with T2.
        lines += negligible_t2(f"{agent} on {env}", [float(x.fillna(0).max()) for x in shares])
    return lines


def _across(
    runs: Sequence[RunRecord], effects: pd.DataFrame, baseline: str
) -> tuple[Cells, Cells, str]:
    """Tables over all environments and for each, and the reason if there are no scores.

    Without scores the first table is empty, and the second also has the pooled effects.
    """
    try:
        labels = across.labels_to_reach(runs)
        over_all = tables_across.summary(runs, effects, labels, baseline)
    except UserError as error:
        lost = failures(runs)
        for (_, agent), count in [*lost.items()]:
            lost[across.POOLED, agent] += count
        failed = [
            lost[place] for place in zip(effects["environment"], effects["agent"], strict=True)
        ]
        each = effects.assign(labels=np.nan, reached=0, failed=failed)
        return [], tables_across.single_cells(each, baseline), " ".join(str(error).splitlines())
    each = tables_across.single(runs, effects, labels, baseline)
    cells = tables_across.single_cells(each, baseline)
    return tables_across.summary_cells(over_all), cells, ""


def _drawings(
    runs: Sequence[RunRecord], results: Path, baseline: str, margin: float, say: Say
) -> list[Drawing]:
    """All figures of the suite that apply to these results."""
    drawings = []
    for path, shipped in drawing.load():
        recipe = drawing.against(shipped, baseline, margin)
        svg, missing = Markup(), ""
        try:
            (image,) = drawing.render(recipe, runs, results, path, ["svg"], say).values()
            svg = inline(image.decode(), path.stem, recipe.title)
        except NotApplicableError:
            continue
        except MissingDataError as error:
            missing = " ".join(str(error).splitlines()).removeprefix(f"{path}: ")
        drawings.append(Drawing(path.stem, recipe.title, recipe.caption, svg, missing))
    return drawings


def inline(svg: str, name: str, title: str) -> Markup:
    """Converts Matplotlib's SVG file to an inline HTML element.

    Ids get a prefix, because they must be unique in the page. Everything outside of the element,
    and metadata with URLs, is removed.

    Args:
        svg: Text of the file.
        name: Prefix, unique in the page.
        title: Title for screen readers.
    """
    text = svg[svg.index("<svg") :]
    text = re.sub(r"\s*<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{name}-", text)
    width, height = (float(_attribute(text, side).removesuffix("pt")) for side in SIZE)
    label = Markup('<svg role="img" aria-label="{}" width="{:.0f}" height="{:.0f}" viewBox="{}">')
    head = label.format(title, width * POINT, height * POINT, _attribute(text, "viewBox"))
    return head + Markup(text[text.index(">") + 1 :].rstrip())


def _attribute(svg: str, name: str) -> str:
    """Value of the first attribute with a name."""
    return svg.split(f' {name}="', 1)[1].split('"', 1)[0]
