"""Environments under random actions."""

from __future__ import annotations

from typing import Any

import numpy as np

from mujoco_sail.environments.factory import space_sizes
from mujoco_sail.environments.vector import StepResult
from mujoco_sail.recipes.load import load_task, recipe_names
from mujoco_sail.recipes.task import Task

TASKS = recipe_names("envs")
# One action, the most observations, and the families.
KINDS = (
    *("inverted_pendulum", "humanoid", "half_cheetah"),
    *("walker_walk", "quadruped_walk", "door_open"),
)
SHORT = 50


def task_of(name: str, **changes: Any) -> Task:
    return load_task(name, "quick", changes)


def random_actions(task: Task, *shape: int, seed: int = 0) -> np.ndarray:
    size = space_sizes(task)[1]
    return np.random.default_rng(seed).uniform(-1, 1, (*shape, size)).astype(np.float32)


def play(env: Any, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Observations and rewards of the next episode."""
    observations, rewards = [env.reset()[0]], []
    for action in actions:
        observation, reward, *_ = env.step(action)
        observations.append(observation)
        rewards.append(reward)
    return np.stack(observations), np.array(rewards)


def assert_same(one: StepResult, other: StepResult, rows: slice = slice(None)) -> None:
    for field in vars(one):
        np.testing.assert_array_equal(getattr(one, field), getattr(other, field)[rows], field)
