"""Synthetic results folders."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import tomli_w

from mujoco_sail.results.read import EVALUATIONS, FEEDBACK, RunRecord

RUN: dict[str, Any] = {
    "status": "complete",
    "device": "cpu",
    "versions": {
        "mujoco": "3.3.0",
        "gymnasium": "1.4.0",
        "dm_control": "1.0.28",
        "metaworld": "3.1.1",
        "mujoco_sail": "0.1.0",
        "torch": "2.13.0",
    },
    "env": {
        "protocol": "quick",
        "backend": "gymnasium",
        "teacher": "oracle",
        "labels": 4,
        "oracle": {"beta": math.inf, "mistake": 0.0},
    },
    "agent": {"class": "some.package:Agent", "lambda": 1.0},
}
STEPS = (100, 200, 300)
# Figures that need other results than agents with runs in every environment.
OTHER_FIGURES = {
    "confirmation",
    "controls",
    "dose_control",
    "doses",
    "estimators",
    "label_budgets",
    "other_agents",
}
MakeFolder = Callable[..., Path]


def write_run(
    results: Path,
    env: str,
    agent: str,
    seed: int,
    returns: tuple[float, ...] = (1, 2, 3),
    success: float | None = None,
    answers: tuple[str, ...] = ("1", "0.5", "skip", "0"),
    steps: tuple[int, ...] = STEPS,
    labels: tuple[int, ...] | None = None,
    training: Mapping[str, Sequence[object]] | None = None,
    **changes: Any,
) -> Path:
    """Writes a run, with changes of `run.toml` by dotted keys, and returns its folder.

    `labels` are the numbers of labels used at each evaluation. `training` has the columns of
    `training.csv`, which is not written without them.
    """
    table = copy.deepcopy(RUN) | {"seed": seed}
    table["env"]["name"], table["agent"]["name"] = env, agent
    for key, value in changes.items():
        *scopes, last = key.split(".")
        inner = table
        for scope in scopes:
            inner = inner[scope]
        inner[last] = value
    folder = results / env / agent / f"seed_{seed}"
    folder.mkdir(parents=True)
    rate = "" if success is None else success
    numbers = zip(steps, returns, labels or (4,) * len(steps), strict=True)
    rows = [f"{x},{y},0.5,10,{rate},{used}" for x, y, used in numbers]
    asked = [f"{i},0,{i},1.0,2.0,{label}" for i, label in enumerate(answers)]
    (folder / "run.toml").write_text(tomli_w.dumps(table))
    for name, head, body in (("evaluations", EVALUATIONS, rows), ("feedback", FEEDBACK, asked)):
        (folder / f"{name}.csv").write_text("\n".join([",".join(head), *body, ""]))
    if training is not None:
        cells = [",".join(map(str, row)) for row in zip(*training.values(), strict=True)]
        (folder / "training.csv").write_text("\n".join([",".join(training), *cells, ""]))
    return folder


def record(
    env: str, agent: str, seed: int, returns: Sequence[float], labels: Sequence[int] = ()
) -> RunRecord:
    """Complete run without files; `labels` are the numbers used at each evaluation."""
    used = labels or [0] * len(returns)
    steps = range(100, 100 * len(returns) + 1, 100)
    columns = {"step": steps, "episode_return": returns, "labels": used}
    evaluations = pd.DataFrame(columns, dtype="float64")
    return RunRecord(Path(), env, agent, seed, "complete", "", evaluations, used[-1], RUN)


def records(finals: Mapping[tuple[str, str], Sequence[float]]) -> list[RunRecord]:
    """Runs with one evaluation, from final returns per seed by environment and agent."""
    return [
        record(env, agent, seed, [final])
        for (env, agent), arm in sorted(finals.items())
        for seed, final in enumerate(arm)
    ]
