"""Doses of T2 and their positive control: `python study/dose_tables.py results`."""

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from mujoco_sail.analysis import across, estimates, paired
from mujoco_sail.analysis.defaults import MARGIN
from mujoco_sail.analysis.inference import holm
from mujoco_sail.analysis.tables_text import interval
from mujoco_sail.results.pooling import collect
from mujoco_sail.results.read import RunRecord

DOSES = ["s_0", "s_0.03", "s_0.1", "s_0.5"]


def differences(runs: Sequence[RunRecord]) -> list[str]:
    """Paired differences from the dose 0 in area under the curve and in final return.

    p-values are of single tests; the declared ones, over both tasks, are those of `declared`.
    """
    table = [
        "| task | arm | pairs | AUC: share of sac's gain [95 % t] | final return: share [95 % t] "
        "| p | p of equivalence | detectable share |",
        "|---|---|" + 6 * "---:|",
    ]
    for row in paired.wide(paired.by_environment(runs, DOSES[0], MARGIN)).to_dict("records"):
        names = "{environment} | {agent} | {auc_n_pairs}".format(**row)
        area, final = (
            interval(*(row[f"{metric}_share{end}"] for end in ("", "_low", "_high")), digits=2)
            for metric in across.METRICS
        )
        tests = "{auc_p:.4f} | {auc_p_equivalence:.4f} | {auc_detectable_share:.2f}".format(**row)
        table.append(f"| {names} | {area} | {final} | {tests} |")
    return table


def declared(runs: Sequence[RunRecord]) -> list[str]:
    """Mean of both tasks of the three doses, with Holm's correction over these three."""
    table = [
        "| dose | pairs | AUC: share of sac's gain [95 % t] | p | p (Holm, 3 doses) "
        "| p of equivalence | detectable share |",
        "|---|" + 6 * "---:|",
    ]
    rows = paired.compare(runs, DOSES[0], MARGIN)
    rows = rows[(rows["environment"] == across.POOLED) & (rows["metric"] == "auc")]
    rows = rows[rows["agent"].isin(DOSES)]
    for row in rows.assign(p_holm=holm(rows["p"])).to_dict("records"):
        area = interval(row["share"], row["share_low"], row["share_high"], digits=2)
        tests = "{p:.4f} | {p_holm:.4f} | {p_equivalence:.4f}".format(**row)
        table.append(
            "| {agent} | {n_pairs} | {area} | {tests} | {detectable_share:.2f} |".format(
                **row, area=area, tests=tests
            )
        )
    return table


def trend(runs: Sequence[RunRecord]) -> list[str]:
    """Slope of the area under the curve over the ranks of the doses, as a share of SAC's gain.

    The slope is that of least squares, taken within each seed that all doses have; its interval is
    a 95 % t interval over these seeds. Headroom: SAC minus the dose 0, all seeds.
    """
    table = ["| task | seeds | slope per dose [95 % t] | p | headroom |"]
    table.append("|---|---:|---:|---:|---:|")
    for env, of_env in across.measures(runs).groupby("environment"):
        area = of_env.pivot(index="seed", columns="agent", values="auc")
        means = area.mean()
        gain = across.gain(means[across.LOW], means[across.HIGH])
        doses = area[DOSES].dropna()
        rank = np.arange(len(DOSES)) - (len(DOSES) - 1) / 2
        slopes = doses.to_numpy() @ rank / (rank @ rank)
        slope = estimates.of_mean(slopes).over(gain)
        low, high = slope.interval()
        cells = f"{slope.value:.3f} [{low:.3f}, {high:.3f}] | {slope.p():.4f}"
        headroom = (means[across.HIGH] - means[DOSES[0]]) / gain
        table.append(f"| {env} | {len(slopes)} | {cells} | {headroom:.2f} |")
    return table


if __name__ == "__main__":
    doses, fifth = (collect(Path(sys.argv[1]) / name) for name in ("doses", "doses_fifth"))
    control = [replace(run, agent="fewer_labels") for run in fifth]
    tables = declared(doses), differences([*doses, *control]), trend(doses)
    print("\n\n".join("\n".join(table) for table in tables))
