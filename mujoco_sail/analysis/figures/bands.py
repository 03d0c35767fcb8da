"""Learning curve of an agent on an environment: centre and band over seeds."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from mujoco_sail.analysis import stats
from mujoco_sail.results.pooling import training_tables
from mujoco_sail.results.read import EVALUATIONS, RunRecord


@dataclass(frozen=True)
class Arm:
    """Values of the finished seeds of an agent on an environment.

    Attributes:
        x: Environment steps or labels, increasing, shape (points,); those at which two seeds or
            the only one have a value.
        values: The metric, shape (seeds, points); nan where a seed has none.
    """

    x: stats.Array
    values: stats.Array

    def band(self, centre: str) -> tuple[stats.Array, stats.Array, stats.Array]:
        """Centre, low and high of the curve, each of shape (points,); see a recipe's `centre`.

        At each point they are over the seeds that have a value there.
        """
        there = ~np.isnan(self.values)
        if there.all():
            return _band(self.values, centre)
        found = np.empty((3, len(self.x)))
        for seeds in np.unique(there, axis=1).T:
            points = (there == seeds[:, None]).all(axis=0)
            found[:, points] = _band(self.values[np.ix_(seeds, points)], centre)
        middle, low, high = found
        return middle, low, high


def _band(values: stats.Array, centre: str) -> tuple[stats.Array, stats.Array, stats.Array]:
    """Centre, low and high over seeds of values without gaps."""
    if centre == "median":
        low, middle, high = np.percentile(values, [25, 50, 75], axis=0)
        return middle, low, high
    low, high = stats.mean_interval([values])
    return values.mean(axis=0), low, high


def arm_of(runs: Sequence[RunRecord], metric: str, x: str) -> Arm | None:
    """Values of an agent's runs on one environment, None if there are none.

    The arm has no points if no two of several seeds have a value at the same place.

    Args:
        runs: Runs of one agent on one environment.
        metric: Metric, as in a recipe.
        x: Horizontal axis, as in a recipe.

    Raises:
        UserError: A `training.csv` is damaged.
    """
    finished = [run for run in runs if run.status == "complete"]
    if x == "labels":
        finished = [run for run in finished if run.labels]
    if metric in EVALUATIONS:
        tables = [run.evaluations for run in finished]
    else:
        tables = training_tables(finished)
    tables = [t for t in tables if metric in t and not t[metric].isna().all()]
    if not tables:
        return None
    places = tables[0]["step"].to_numpy()
    values = np.array([table[metric] for table in tables])
    if x == "labels":
        places, values = _against_labels(tables, values)
    # An accuracy is nan before labels, or if all are ties.
    there = (~np.isnan(values)).sum(axis=0) >= min(2, len(values))
    return Arm(places[there], values[:, there])


def _against_labels(
    tables: Sequence[pd.DataFrame], values: stats.Array
) -> tuple[stats.Array, stats.Array]:
    """Values against labels: for each number of labels, every seed's last value with at most these.

    Args:
        tables: Tables with the column "labels", one per seed.
        values: Values of their rows, shape (seeds, rows).

    Returns:
        Labels, increasing, shape (points,), and values of shape (seeds, points).
    """
    used = [np.maximum.accumulate(table["labels"].to_numpy()) for table in tables]
    labels = np.unique(np.concatenate(used))
    labels = labels[labels >= max(seed[0] for seed in used)]  # from where every seed has a value
    rows = [np.searchsorted(seed, labels, side="right") - 1 for seed in used]
    return labels, np.array([value[row] for value, row in zip(values, rows, strict=True)])
