"""Rates, ratios and a table from the measurements."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from rich import box
from rich.table import Table

from mujoco_sail.environments.factory import space_sizes
from mujoco_sail.speed.plan import Plan
from mujoco_sail.speed.roofline import PRODUCT_CALLS
from mujoco_sail.speed.rounds import RATIO, Rate
from mujoco_sail.training.forecast import update_operations

COLUMNS = (
    "measurement",
    "learner",
    "members",  # M
    "processes",
    "threads",  # per process
    "precision",
    "engine",  # of this package's updates
    "against",  # denominator of a ratio
    "width",
    "batch",
    "environment",
    "backend",
    "device",
    "rounds",
    "median",  # over rounds; ratios are computed per round
    "low",
    "high",
    "unit",
)
CEILING = "matrix product"
Values = NDArray[np.float64]


def frame(plan: Plan, rates: Sequence[Rate]) -> pd.DataFrame:
    """Table of rates, then of ratios.

    Returns:
        Table with the columns `COLUMNS`.
    """
    rows = [
        _row(plan, rate, rate.measurement, rate.values, rate.unit)
        for rate in rates
        if rate.unit != RATIO
    ]
    for count in plan.members:
        for spec in plan.specs:
            rows += _ratios(plan, rates, spec.name, count)
    return pd.DataFrame(rows, columns=list(COLUMNS))


def lines(plan: Plan, rows: pd.DataFrame) -> list[str]:
    """Summary for programs.

    Returns:
        A line per agent of this package and number of members: `speed` and pairs `key=value`.
        `update_ms` is the time of one process for one update of one member; the ratio to a peer
        is that to its fastest configuration.
    """
    return [_line(plan, rows, spec.name, count) for spec in plan.specs for count in plan.members]


def _line(plan: Plan, rows: pd.DataFrame, name: str, count: int) -> str:
    own = rows[(rows.learner == name) & (rows.members == count)]
    train, update = (own[own.unit == f"member-{what}/s"].iloc[0] for what in ("steps", "updates"))
    values = {
        "env": train["environment"],
        "learner": name,
        **{key: train[key] for key in ("width", "batch", "precision", "engine", "members")},
        "processes": train["processes"],
        "steps_per_s": _figure(train["median"]),
        "update_ms": _figure(1e3 * update["processes"] / update["median"]),
    }
    ratios = own[(own.measurement == "train") & (own.unit == RATIO)]
    for short, ways in plan.peers.items():
        to = ratios[ratios.against.str.startswith(f"{ways[0].spec.name} ")]
        values[short] = _figure(to["median"].min())
    return " ".join(["speed", *(f"{key}={value}" for key, value in values.items())])


def _figure(value: float) -> str:
    """Formats a number with three significant digits."""
    return f"{float(f'{value:.3g}'):g}"


def render(plan: Plan, rows: pd.DataFrame) -> Table:
    """Table for a terminal of 80 columns."""
    task = plan.task
    title = (
        f"{task.name}, width {task.hidden_units}, batch {task.batch_size}, "
        f"{task.precision}, {task.engine}, {plan.device}: medians of {plan.rounds} rounds\n"
        "(M members on P processes of T threads; rates are of all M together)"
    )
    table = Table(title=title, title_justify="left", box=box.SIMPLE, padding=(0, 1, 0, 0))
    table.add_column("", no_wrap=True)
    for name in ("M", "PxT", "median", "low", "high"):
        table.add_column(name, justify="right")
    table.add_column("")
    own, timed = " " + task.precision, True
    for row in rows.to_dict("records"):
        if timed and row["against"]:
            table.add_section()
            timed = False
        what = " ".join([row["measurement"], row["learner"]])
        if row["against"]:
            what += f" / {row['against'].removesuffix(own)}"
        elif row["precision"] != own.strip():
            what += f" {row['precision']}"
        table.add_row(
            what,
            str(row["members"]),
            f"{row['processes']}x{row['threads']}",
            *(f"{row[key]:.3g}" for key in ("median", "low", "high")),
            row["unit"].removeprefix("member-").replace("evaluations", "evals"),
        )
    return table


def _ratios(plan: Plan, rates: Sequence[Rate], name: str, count: int) -> list[dict[str, Any]]:
    """Ratios of the rates of one stack."""

    def of(measurement: str, learner: str = name) -> Rate:
        key = (measurement, learner, count)
        return next(r for r in rates if (r.measurement, r.learner, r.members) == key)

    rows = []

    def add(by: Rate, measurement: str, values: Values, unit: str, other: str) -> None:
        rows.append(_row(plan, by, measurement, values, unit) | {"against": other})

    train, update = of("train"), of("update")
    steps, updates = np.array(train.values), np.array(update.values)

    names = [ways[0].spec.name for ways in plan.peers.values()]
    peers = [r for r in rates if r.learner in names and r.processes == plan.peers_at_once(count)]
    # In each precision, the number of threads with the highest rate.
    for kind in dict.fromkeys((r.learner, r.precision) for r in peers):
        peer = max((r for r in peers if (r.learner, r.precision) == kind), key=_median)
        other = f"{peer.learner} {peer.processes}x{peer.request.threads} {peer.precision}"
        add(train, "train", steps / peer.values, RATIO, other)

    best = np.max([of(way, "").values for way in PRODUCT_CALLS], axis=0)
    done = updates * update_operations(plan.task, space_sizes(plan.task)) / 1e9
    add(update, "update", done, "GFLOP/s", "")
    add(update, "update", done / best, RATIO, CEILING)

    if count == max(plan.members):
        environment = np.array(of("environment").values)
        # An update takes 1 / (steps * (1 + environment)) seconds of the workers' time.
        evaluations = of("evaluation").values[0]
        evaluation = steps * (1 + environment) / (evaluations * plan.period)
        for what, values in (
            ("environment", environment),
            ("evaluation", evaluation),
            ("harness", environment + evaluation),
        ):
            add(train, what, values, RATIO, "update")
    return rows


def _median(rate: Rate) -> float:
    return float(np.median(rate.values))


def _row(
    plan: Plan,
    rate: Rate,
    measurement: str,
    values: Sequence[float] | NDArray[np.float64],
    unit: str,
) -> dict[str, Any]:
    task = plan.task
    return {
        "measurement": measurement,
        "learner": rate.learner,
        "members": rate.members,
        "processes": rate.processes,
        "threads": rate.request.threads,
        "precision": rate.precision,
        "engine": task.engine if rate.learner in [spec.name for spec in plan.specs] else "",
        "against": "",
        "width": task.hidden_units,
        "batch": task.batch_size,
        "environment": task.name,
        "backend": task.backend,
        "device": str(plan.device),
        "rounds": len(values),
        "median": float(np.median(values)),
        "low": float(np.min(values)),
        "high": float(np.max(values)),
        "unit": unit,
    }
