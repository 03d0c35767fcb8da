"""Small tasks and tensors for tests."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from mujoco_sail.recipes.load import load_task
from mujoco_sail.recipes.task import Task

CPU = torch.device("cpu")
# Small enough for a test, large enough that sessions, relabelling and a reference refresh happen.
TINY = {
    "engine": "eager",
    "cuda_graph": False,  # as in every run on the CPU
    "steps": 150,
    "random_steps": 60,
    "exploration_steps": 20,
    "evaluation_every": 75,
    "evaluation_episodes": 1,
    "log_every": 75,
    "batch_size": 16,
    "hidden_units": 16,
    "labels": 8,
    "labels_per_session": 4,
    "session_every": 30,
    "segment_steps": 10,
    "reward_units": 8,
    "reward_epochs": 3,
    "reward_batch_size": 4,
    "reference_after": 90,
    "reference_every": 30,
    "episode_steps": 40,
}


def tiny_task(env: str = "half_cheetah", teacher: str | None = None, **changes: Any) -> Task:
    return load_task(env, "quick", {**TINY, **changes}, teacher)


def draw(*shape: int) -> Tensor:
    """Standard normal numbers, the same in every call."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))
