"""SAC and PEBBLE learn walker_stand, by three seeds and half of the steps of `quick`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from mujoco_sail.agents import registry
from mujoco_sail.environments.factory import space_sizes
from mujoco_sail.environments.vector import VectorEnv
from mujoco_sail.recipes.load import load_task
from mujoco_sail.recipes.task import Task
from mujoco_sail.training.pool import execute
from mujoco_sail.training.selection import unfinished_members

SEEDS = range(3)
# Between the returns of the random policy (mean 127, std 11 over episodes) and the trained agents.
BOUND = 155.0
SHORT = {"steps": 12_500, "evaluation_every": 12_500, "evaluation_episodes": 4}


def final_returns(task: Task, agents: list[str], results: Path) -> dict[str, np.ndarray]:
    """Return of the last evaluation of every seed."""
    specs = [registry.load_spec(name, {}) for name in agents]
    members = unfinished_members(task, specs, SEEDS, results)
    assert execute(task, members, torch.device("cpu"), results, lambda _: None) == []
    final = {}
    for name in agents:
        runs = [results / task.name / name / f"seed_{seed}" for seed in SEEDS]
        for run in runs:
            training = pd.read_csv(run / "training.csv")
            assert training["updates"].iloc[-1] >= task.steps - task.random_steps
        curves = [pd.read_csv(run / "evaluations.csv")["episode_return"] for run in runs]
        final[name] = np.array([curve.iloc[-1] for curve in curves])
    return final


def random_returns(task: Task) -> np.ndarray:
    envs = VectorEnv(task, range(10), "random policy")
    generator = np.random.default_rng(0)
    total, actions = np.zeros(10), space_sizes(task)[1]
    for _ in range(task.episode_steps):
        total += envs.step(generator.uniform(-1, 1, (10, actions))).reward
    return total


@pytest.fixture(scope="module")
def task() -> Task:
    return load_task("walker_stand", "quick", SHORT)


@pytest.fixture(scope="module")
def returns(task: Task, tmp_path_factory: pytest.TempPathFactory) -> dict[str, np.ndarray]:
    """Final returns of SAC, of PEBBLE, and of PEBBLE with flipped labels."""
    folder = tmp_path_factory.mktemp("learning")
    flipping = replace(task, teacher="mistake", oracle=replace(task.oracle, mistake=1.0))
    flipped = final_returns(flipping, ["pebble"], folder / "flipped")
    return final_returns(task, ["sac", "pebble"], folder / "true") | {"flipped": flipped["pebble"]}


def test_final_returns_of_sac_and_pebble_exceed_the_bound(
    task: Task, returns: dict[str, np.ndarray]
) -> None:
    random = random_returns(task)
    assert random.mean() + 2 * random.std() < BOUND
    assert returns["sac"].mean() > BOUND
    assert returns["pebble"].mean() > BOUND


def test_pebble_with_flipped_labels_stays_below_the_bound(returns: dict[str, np.ndarray]) -> None:
    assert returns["flipped"].mean() < BOUND
