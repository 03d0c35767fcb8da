"""Trend over the doses of T2: `python study/dose_trend.py results/doses` prints a row per task."""

import sys
from pathlib import Path

import numpy as np

from mujoco_sail.analysis import across, estimates
from mujoco_sail.results.pooling import collect

DOSES = ["s_0", "s_0.03", "s_0.1", "s_0.5"]


def rows(folder: str) -> list[str]:
    """Slope of the area under the curve over the ranks of the doses, as a share of SAC's gain.

    The slope is that of least squares, taken within each seed that all doses have; its interval is
    a 95 % t interval over these seeds. Headroom: SAC minus the dose 0, all seeds.
    """
    table = ["| task | seeds | slope per dose [95 % t] | p | headroom |"]
    table.append("|---|---:|---:|---:|---:|")
    runs = across.measures(collect(Path(folder)))
    for env, of_env in runs.groupby("environment"):
        area = of_env.pivot(index="seed", columns="agent", values="auc")
        means = area.mean()
        gain = means["sac"] - means["random"]
        doses = area[DOSES].dropna()
        rank = np.arange(len(DOSES)) - (len(DOSES) - 1) / 2
        slopes = doses.to_numpy() @ rank / (rank @ rank)
        slope = estimates.paired(slopes, np.zeros(len(slopes))).over(gain)
        low, high = slope.interval()
        cells = f"{slope.value:.3f} [{low:.3f}, {high:.3f}] | {slope.p():.4f}"
        headroom = (means["sac"] - means["s_0"]) / gain
        table.append(f"| {env} | {len(slopes)} | {cells} | {headroom:.2f} |")
    return table


if __name__ == "__main__":
    print("\n".join(rows(sys.argv[1])))
