"""Scores of the candidates in docs/study.md, from the evaluation tables next to this file."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from mujoco_sail.analysis import stats

HERE = Path(__file__).parent
SEED = 0  # seed of the bootstrap


def scores(table: Path) -> pd.DataFrame:
    """Final returns on one task, seeds x agents, scaled to mean 0 of `random` and 1 of `sac`."""
    runs = pd.read_csv(table).groupby(["seed", "agent"], sort=False)["episode_return"]
    final = runs.apply(stats.final_return).unstack()
    low, high = final["random"].mean(), final["sac"].mean()
    return (final - low) / (high - low)


def score(*samples: stats.Array) -> stats.Array:
    """Mean over tasks of the interquartile mean over seeds."""
    return np.asarray(np.mean([stats.interquartile_mean(x) for x in samples], axis=0))


def rows(tasks: dict[str, pd.DataFrame]) -> Iterator[str]:
    """Rows of a markdown table: IQM on each task, and their mean with 95 % bootstrap interval."""
    yield f"| candidate | {' | '.join(tasks)} | mean [95 % interval] |"
    yield f"|---|{'---:|' * (len(tasks) + 1)}"
    for agent in dict.fromkeys(name for frame in tasks.values() for name in frame):
        samples = [frame[agent].to_numpy() for frame in tasks.values()]
        each = [float(stats.interquartile_mean(sample)) for sample in samples]
        low, high = stats.bootstrap_interval(samples, score, np.random.default_rng(SEED))
        cells = " | ".join(f"{value:.2f}" for value in each)
        yield f"| `{agent}` | {cells} | {np.mean(each):.2f} [{low:.2f}, {high:.2f}] |"


if __name__ == "__main__":
    tables = sorted(HERE.glob("*_search.csv"))
    tasks = {table.name.removesuffix("_search.csv"): scores(table) for table in tables}
    print("\n".join(rows(tasks)))
