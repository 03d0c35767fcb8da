"""Comparison of SAC on the true reward with published learning curves, for docs/study.md."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

import mujoco_sail

HERE = Path(__file__).parent
ROOT = HERE.parent
# Published mean returns over seeds, by steps. Sources: pytorch_sac (Yarats and Kostrikov 2020) with
# three seeds and networks of 2 x 1024 units; SAC of SimbaV2 (Lee et al. 2025), except for Walker2d,
# where it has no fixed horizon, unlike the search.
PUBLIC = {
    "walker_walk": {20_000: 73, 40_000: 184, 60_000: 371},
    "walker_stand": {20_000: 263, 40_000: 562, 60_000: 693},
    "cheetah_run": {20_000: 59, 40_000: 63, 60_000: 108},
    "half_cheetah": {16_700: 547, 33_000: 2518},
}


def curves() -> Iterator[tuple[str, pd.DataFrame]]:
    """Returns of `sac`, steps x seeds, by environment, from the study and from the search."""
    study = mujoco_sail.read_results(ROOT / "results/study").evaluations.query("agent == 'sac'")
    for env, table in study.groupby("env"):
        yield str(env), table.pivot(index="step", columns="seed", values="episode_return")
    for path in sorted(HERE.glob("*_search.csv")):
        table = pd.read_csv(path).query("agent == 'sac'")
        name = path.name.removesuffix("_search.csv")
        yield name, table.pivot(index="step", columns="seed", values="episode_return")


def rows() -> Iterator[str]:
    """Rows of a markdown table; returns between evaluations are interpolated linearly."""
    yield "| SAC | steps | public | mean here | lowest to highest seed | seeds |"
    yield "|---|---:|---:|---:|---:|---:|"
    for env, table in curves():
        for step, public in PUBLIC.get(env, {}).items():
            at = np.array([np.interp(step, table.index, table[seed]) for seed in table])
            spread = f"{at.min():.0f} to {at.max():.0f}"
            yield f"| {env} | {step} | {public} | {at.mean():.0f} | {spread} | {len(at)} |"


if __name__ == "__main__":
    print("\n".join(rows()))
