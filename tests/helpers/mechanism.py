"""Synthetic folders of the mechanism study."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd


def gradients(rows: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Rows of `gradients_*.csv`; missing values are those of the reference of one network."""
    usual = {
        **{"env": "walker_walk", "session": 5, "estimate": "reference", "window": math.nan},
        **{"labels": math.nan, "repeat": 0, "seed": 0, "network": 0, "inner": 1.0, "square": 1.0},
        **{"square_of_other": 1.0, "t1_norm": math.nan, "alpha": math.nan},
    }
    table = pd.DataFrame([usual | dict(row) for row in rows])
    of_reference = table["estimate"] == "reference"
    return table.assign(t1_norm=table["t1_norm"].mask(of_reference & table["t1_norm"].isna(), 1.0))


def refits(rows: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Rows of `refits_*.csv`; missing values are those of a refit without T2."""
    usual = {
        **{"env": "walker_walk", "session": 5, "seed": 0, "unit": "share", "lambda": 0.0},
        **{"batches": 0, "log_p": 0.0, "accuracy": 0.5, "return": 0.0, "fitted_accuracy": 0.5},
        **{"share": math.nan, "signal": math.nan},
    }
    return pd.DataFrame([usual | dict(row) for row in rows])


def write_mechanism(folder: Path, seeds: int = 4) -> None:
    """Writes random numbers for all stages, sessions and estimates, in two files each."""
    draw, places = np.random.default_rng(0), []
    for session in (5, 12, 25):
        places.append({"session": session, "t1_norm": 5.0})
        for window in (1, 5, 20):
            at = {"session": session, "window": window}
            places += [at | {"estimate": "model", "labels": 0, "repeat": n} for n in range(2)]
            for labels, repeats in {10: 8, 50: 4, 250: 2}.items():
                for estimate in ("labels", "corrected"):
                    at |= {"estimate": estimate, "labels": labels}
                    places += [at | {"repeat": n} for n in range(repeats)]
        for window in (1, 5, session - 1):
            labels = 10 * min(window, session - 1)
            at = {"session": session, "window": window, "labels": labels}
            places.append(at | {"estimate": "sessions"})
    arms = [("share", 0.0, 0), ("share", 0.0, 1), ("share", 0.03, 0), ("share", 1.0, 0)]
    for first in range(0, seeds, seeds // 2):
        members = range(first, first + seeds // 2)
        rows = [
            place
            | {"seed": seed, "network": network, "square": 1 + 100 / (place.get("labels") or 100)}
            | {"inner": draw.normal(0.5, 0.2), "square_of_other": 1.0}
            for place in places
            for seed in members
            for network in range(3)
        ]
        gradients(rows).to_csv(folder / f"gradients_walker_walk_seed{first}.csv", index=False)
        fits = [
            {"session": session, "seed": seed, "unit": unit, "lambda": value, "batches": batches}
            | {"log_p": draw.normal(-0.5, 0.05), "accuracy": draw.normal(0.8, 0.02)}
            | {"return": draw.normal(200, 20)}
            | ({"share": value, "signal": draw.normal(0, value**2)} if value else {})
            for session in (5, 12, 25)
            for seed in members
            for unit, value, batches in [*arms, ("exact", 1.0, 0)]
        ]
        for fit in fits:
            if fit["unit"] == "exact":
                fit |= {"share": draw.uniform(30, 40), "signal": draw.uniform(50, 60)}
        refits(fits).to_csv(folder / f"refits_walker_walk_seed{first}.csv", index=False)
