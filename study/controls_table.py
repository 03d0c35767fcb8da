"""Controls of docs/study.md: `python study/controls_table.py results/controls` prints them."""

import sys
from pathlib import Path

import pandas as pd

from mujoco_sail.analysis import controls
from mujoco_sail.analysis.figures import drawing

COLUMNS = "pairs", "AUC: share of sac's gain [95 % t]", "p", "p (Holm)", "detectable share"


def rows(folder: str) -> list[str]:
    """Paired differences of the comparisons in `plots/controls.toml`, and those without runs.

    Holm's correction is over the rows of the table.
    """
    ((path, recipe),) = ((path, one) for path, one in drawing.load() if path.stem == "controls")
    arms = controls.Arms(Path(folder), str(path))
    run = controls.with_runs(recipe.comparisons, arms)
    missing = [name for name in recipe.comparisons if name not in run]
    table = []
    if run:
        table = _table(controls.compare(run, recipe.scale, recipe.margin, arms), recipe.metric)
    return [*table, *([f"\nNot run: {', '.join(missing)}"] if missing else [])]


def _table(compared: pd.DataFrame, metric: str) -> list[str]:
    table = ["| control | predicted | " + " | ".join(COLUMNS) + " |", "|---|---|" + 5 * "---:|"]
    for row in compared[compared["metric"] == metric].to_dict("records"):
        share = "{share:.2f} [{share_low:.2f}, {share_high:.2f}]".format(**row)
        cells = "{p:.4f} | {p_holm:.4f} | {detectable_share:.2f}".format(**row)
        name, predicted, pairs = row["agent"], row["predicted"], row["n_pairs"]
        table.append(f"| {name} | {predicted} | {pairs} | {share} | {cells} |")
    return table


if __name__ == "__main__":
    print("\n".join(rows(sys.argv[1])))
