"""Tables of docs/language.md: `python study/language_study.py results/language` prints them.

The path of a run leads from KL 0, with its reference's reward, through its evaluations, and is
linear between them. Two runs of a seed are compared at the smaller of their largest KLs.
"""

import itertools
import sys
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mujoco_sail.analysis import estimates
from mujoco_sail.analysis.inference import holm
from mujoco_sail.analysis.tables_text import p_value
from mujoco_sail.results.pooling import collect

FREE = ("online_dpo", "sail_lm_tenth", "sail_lm")
ANCHORED = ("online_dpo_revkl", "sail_revkl_lm_tenth", "sail_revkl_lm")
COMPARED = (*((arm, FREE[0]) for arm in FREE[1:]), *zip(ANCHORED, FREE, strict=True))
MARGIN = 0.05  # of equivalence, in reward

Path_ = tuple[np.ndarray, np.ndarray]  # KL and reward along a run, each [evaluations + 1]


def path_of(evaluations: pd.DataFrame) -> Path_:
    """KL to the reference and reward along a run, from the reference on.

    Raises:
        ValueError: A KL or a reward is not finite.
    """
    if not np.isfinite(evaluations[["kl_from_reference", "episode_return"]]).all(axis=None):
        raise ValueError("an evaluation without a finite KL and reward")
    start = evaluations["reference_return"].mean()
    divergence = np.append(0.0, evaluations["kl_from_reference"])
    return divergence, np.append(start, evaluations["episode_return"])


def reward_at(path: Path_, divergence: float) -> float:
    """Reward where a path first reaches a KL, which it reaches."""
    kl, reward = path
    last = int(np.argmax(kl >= divergence))
    if not last:
        return float(reward[0])
    share = (divergence - kl[last - 1]) / (kl[last] - kl[last - 1])
    return float(reward[last - 1] + share * (reward[last] - reward[last - 1]))


def at_equal_divergence(one: Path_, other: Path_) -> tuple[float, float]:
    """Rewards of two runs at the smaller of their largest KLs."""
    reached = min(one[0].max(), other[0].max())
    return reward_at(one, reached), reward_at(other, reached)


def comparisons(runs: dict[tuple[str, str, int], pd.DataFrame]) -> list[dict[str, Any]]:
    """A row per task and comparison that has at least two common seeds."""
    rows = []
    for env, (arm, rival) in itertools.product(sorted({env for env, *_ in runs}), COMPARED):
        of_arm, of_rival = (
            {seed: run for (e, a, seed), run in runs.items() if (e, a) == (env, name)}
            for name in (arm, rival)
        )
        seeds = sorted(of_arm.keys() & of_rival.keys())
        if len(seeds) < 2:
            continue
        pairs = [(of_arm[seed], of_rival[seed]) for seed in seeds]
        rewards = [at_equal_divergence(path_of(one), path_of(other)) for one, other in pairs]
        wins = [(a["success_rate"].iloc[-1], b["success_rate"].iloc[-1]) for a, b in pairs]
        of_rewards, of_wins = (
            estimates.paired(*map(np.array, zip(*values, strict=True)))
            for values in (rewards, wins)
        )
        row = {"task": env, "agent": arm, "against": rival, "seeds": len(seeds)}
        rows.append(row | {"reward": of_rewards, "wins": of_wins})
    return rows


def stability(
    runs: dict[tuple[str, str, int], pd.DataFrame], failed: Collection[tuple[str, str, int]] = ()
) -> pd.DataFrame:
    """A row per task and agent: last reward and KL, the worst seed, and collapses.

    A run that failed counts as a seed and as a collapse; it has no last reward.
    """
    last = pd.DataFrame(
        {"task": env, "agent": agent, **run.iloc[-1].to_dict()}
        for (env, agent, _), run in runs.items()
    )
    last["collapsed"] = last["episode_return"] < last["reference_return"]
    without = pd.DataFrame(
        [{"task": env, "agent": agent, "collapsed": True} for env, agent, _ in failed]
    )
    last = pd.concat([last, without], ignore_index=True)
    return last.groupby(["task", "agent"]).agg(
        seeds=("collapsed", "size"),
        reference=("reference_return", "mean"),
        reward=("episode_return", "mean"),
        worst=("episode_return", "min"),
        collapses=("collapsed", "sum"),
        win_rate=("success_rate", "mean"),
        divergence=("kl_from_reference", "mean"),
    )


def main(folder: str) -> None:
    """Prints both tables, and the runs that failed."""
    found = collect(Path(folder))
    runs = {
        (run.env, run.agent, run.seed): pd.read_csv(run.folder / "evaluations.csv")
        for run in found
        if run.status == "complete"
    }
    failed = [(run.env, run.agent, run.seed) for run in found if run.status == "failed"]
    if not runs:
        sys.exit(f"{folder}: no complete run")
    rows = comparisons(runs)
    adjusted = holm([row["reward"].p() for row in rows])
    print("| task | agent | against | seeds | reward at equal KL | p (Holm) | equivalent | wins |")
    print("|---|---|---|---:|---:|---:|---|---:|")
    for row, p in zip(rows, adjusted, strict=True):
        cells = [
            f"{e.value:.3f} [{e.interval()[0]:.3f}, {e.interval()[1]:.3f}]"
            for e in (row["reward"], row["wins"])
        ]
        equivalent = "yes" if row["reward"].p_equivalence(MARGIN) < 0.05 else "no"
        names = " | ".join(str(row[key]) for key in ("task", "agent", "against", "seeds"))
        print(f"| {names} | {cells[0]} | {p_value(p)} | {equivalent} | {cells[1]} |")
    print("\n| task | agent | seeds | reference | reward | worst | collapses | win rate | KL |")
    print("|---|---|---:|---:|---:|---:|---:|---:|---:|")
    for (task, agent), row in stability(runs, failed).iterrows():  # type: ignore[misc]
        values = " | ".join(f"{row[key]:.3f}" for key in ("reference", "reward", "worst"))
        ends = f"{row['collapses']:.0f} | {row['win_rate']:.3f} | {row['divergence']:.2f}"
        print(f"| {task} | {agent} | {row['seeds']:.0f} | {values} | {ends} |")
    for env, agent, seed in failed:
        print(f"\nfailed: {env}, {agent}, seed {seed}")


if __name__ == "__main__":
    main(sys.argv[1])
