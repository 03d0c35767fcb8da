"""Trend over the doses of T2: `python study/dose_trend.py results/doses` prints a row per task."""

import sys

import numpy as np
import pandas as pd

import mujoco_sail
from mujoco_sail.analysis import estimates, stats

DOSES = ["s_0", "s_0.03", "s_0.1", "s_0.5"]


def rows(folder: str) -> list[str]:
    """Slope of the area under the curve over the ranks of the doses, as a share of SAC's gain.

    The slope is that of least squares, taken within each seed that all doses have; its interval is
    a 95 % t interval over these seeds. Headroom: SAC minus the dose 0, all seeds.
    """
    table = ["| task | seeds | slope per dose [95 % t] | p | headroom |"]
    table.append("|---|---:|---:|---:|---:|")
    by_run = mujoco_sail.read_results(folder).evaluations.groupby(["env", "agent", "seed"])
    area = by_run[["step", "episode_return"]].apply(
        lambda run: stats.area_under_curve(run["step"], run["episode_return"])
    )
    for env, of_env in area.groupby("env"):
        means = of_env.groupby("agent").mean()
        gain = means["sac"] - means["random"]
        doses: pd.DataFrame = of_env.droplevel("env").unstack("agent")[DOSES].dropna()
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
