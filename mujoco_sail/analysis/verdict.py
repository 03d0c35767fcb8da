"""The answer in words: is SAIL better than PEBBLE?"""

from collections.abc import Sequence

import pandas as pd

from mujoco_sail.analysis.across import POOLED
from mujoco_sail.analysis.rendering import interval

JUDGED = ("sail", "sail_revkl")
TITLES = {
    "mrn": "MRN",
    "pebble": "PEBBLE",
    "pebble_npg": "PEBBLE with natural gradients",
    "pebble_revkl": "PEBBLE with the anchor",
    "qpa": "QPA",
    "rune": "RUNE",
    "sac": "SAC",
    "sail": "SAIL",
    "sail_revkl": "SAIL-RevKL",
    "sail_revkl_npg": "SAIL-RevKL with natural gradients",
    "surf": "SURF",
}


def verdict(effects: pd.DataFrame, baseline: str, agents: Sequence[str] = JUDGED) -> str:
    """One sentence per agent, from the interval of its pooled d.

    "better" or "worse" if the interval lies on one side of zero, else "cannot be told apart".

    Args:
        effects: See `across.effects`.
        baseline: Agent that `effects` are against.
        agents: Agents that are judged; the baseline is not.
    """
    return " ".join(_sentence(effects, baseline, name) for name in agents if name != baseline)


def _sentence(effects: pd.DataFrame, baseline: str, agent: str) -> str:
    name, rival = TITLES.get(agent, agent), TITLES.get(baseline, baseline)
    mine = effects[effects["agent"] == agent]
    # Only environments whose d is defined are in the pooled one.
    single = mine[(mine["environment"] != POOLED) & mine["d"].notna()]
    if single.empty:
        return f"{name} cannot be compared with {rival}: too few finished seeds."
    d, low, high = mine.loc[mine["environment"] == POOLED, ["d", "d_low", "d_high"]].iloc[0]
    if low > 0:
        judgement = f"is better than {rival}"
    elif high < 0:
        judgement = f"is worse than {rival}"
    else:
        judgement = f"cannot be told apart from {rival}"
    few, many = single["seeds"].min(), single["seeds"].max()
    seeds = f"{few}" if few == many else f"{few} to {many}"
    places = "1 environment" if len(single) == 1 else f"{len(single)} environments"
    return (
        f"{name} {judgement}: d = {interval(d, low, high, 2)}, {seeds} seeds on each of {places}."
    ).replace("on each of 1 environment", "on 1 environment")
