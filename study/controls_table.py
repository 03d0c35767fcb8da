"""Controls of docs/study.md: `python study/controls_table.py results/controls` prints them."""

import sys
from pathlib import Path

import pandas as pd

from mujoco_sail.analysis import controls
from mujoco_sail.analysis.figures import drawing
from mujoco_sail.analysis.tables import seeds
from mujoco_sail.analysis.tables_text import p_value

COLUMNS = "pairs", "AUC: share of sac's gain [95 % t]", "p", "p (Holm)", "detectable share"


def rows(folder: str) -> list[str]:
    """Paired differences of the comparisons in `plots/controls.toml`, and those without runs.

    Holm's correction is over the rows of the table.
    """
    ((path, recipe),) = ((path, one) for path, one in drawing.load() if path.stem == "controls")
    arms = controls.Arms(Path(folder), str(path))
    run = controls.with_runs(recipe.comparisons, arms)
    table = _table(controls.compare(run, recipe.scale, arms), recipe.metric) if run else []
    lacking: dict[str, list[str]] = {}
    for name in recipe.comparisons:
        if name not in run:
            reason = controls.reason(recipe.comparisons[name], arms)
            lacking.setdefault(reason.capitalize(), []).append(name)
        elif of_one := controls.of_one_arm(recipe.comparisons[name], arms):
            of_one = [f"{name} on {env}" for env in of_one]
            lacking.setdefault("Finished by one arm only", []).extend(of_one)
    return [*table, *(f"\n{reason}: {', '.join(names)}" for reason, names in lacking.items())]


def _table(compared: pd.DataFrame, metric: str) -> list[str]:
    table = ["| control | predicted | " + " | ".join(COLUMNS) + " |", "|---|---|" + 5 * "---:|"]
    several = compared["environment"].nunique() > 1
    for row in compared[compared["metric"] == metric].to_dict("records"):
        share = "{share:.2f} [{share_low:.2f}, {share_high:.2f}]".format(**row)
        cells = f"{p_value(row['p'])} | {p_value(row['p_holm'])} | {row['detectable_share']:.2f}"
        place = f", {row['environment']}" if several else ""
        names = f"{row['agent']}{place} | {row['predicted']}"
        pairs = seeds(row["n_pairs"], row["failed"])
        table.append(f"| {names} | {pairs} | {share} | {cells} |")
    return table


if __name__ == "__main__":
    print("\n".join(rows(sys.argv[1])))
