from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import settings

from mujoco_sail.agents import registry
from mujoco_sail.agents.base import Member
from mujoco_sail.recipes.load import load_task
from mujoco_sail.recipes.task import Task
from mujoco_sail.training.run import Run

# Small enough for a test, large enough that sessions, relabelling and a reference refresh happen.
TINY = {
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

torch.set_num_threads(1)
# Tests run side by side: a worker that waits for its threads must not take their core.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
# For the fuzz tests, see `fuzzing`; max_examples is a percentage of their own numbers.
settings.register_profile("default", database=None, derandomize=True, max_examples=100)
settings.register_profile("hunt", database=None, print_blob=True, max_examples=1000)
settings.load_profile("default")

MakeRun = Callable[..., Run]
CPU = torch.device("cpu")


@pytest.fixture
def float64() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def tiny_task(env: str = "half_cheetah", teacher: str | None = None, **changes: Any) -> Task:
    return load_task(env, "quick", {**TINY, **changes}, teacher)


@pytest.fixture
def make_run(tmp_path: Path) -> MakeRun:
    """Builds a run of tiny size: `make_run([("sail", 0), ("pebble", 1)])`."""
    count = iter(range(1000))

    def make(
        members: Sequence[tuple[str, int]],
        task: Task | None = None,
        settings: dict[str, dict[str, Any]] | None = None,
        device: torch.device = CPU,
    ) -> Run:
        changed = settings or {}
        made = [
            Member(registry.load_entry(name, changed.get(name, {})), seed) for name, seed in members
        ]
        folder = tmp_path / f"results_{next(count)}"
        return Run(task or tiny_task(), made, device, folder, lambda _: None)

    return make
