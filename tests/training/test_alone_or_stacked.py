"""Independence of a member's results from its stack, for many network and batch sizes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from helpers.tiny import CPU, tiny_task
from torch.nn import functional

from mujoco_sail.agents import registry
from mujoco_sail.agents.base import Member
from mujoco_sail.core.products import memberwise
from mujoco_sail.training.run import Run

# Sizes that are not multiples of a vector register, and some that are.
SIZES = [(257, 32), (77, 19), (31, 7), (128, 64)]
FILES = ("evaluations.csv", "training.csv", "feedback.csv")


def train(seeds: list[int], width: int, batch: int, results: Path) -> None:
    task = tiny_task(
        hidden_units=width,
        batch_size=batch,
        reward_units=width // 2,
        reward_batch_size=5,
        labels=20,
        labels_per_session=10,
        evaluation_episodes=3,
        steps=130,
        evaluation_every=65,
        log_every=65,
    )
    spec = registry.load_spec("sail_revkl", {"reset_updates": 5})
    Run(task, [Member(spec, seed) for seed in seeds], CPU, results, lambda _: None).execute()


@pytest.mark.parametrize(("width", "batch"), SIZES)
def test_a_member_writes_the_same_files_alone_and_in_a_stack(
    width: int, batch: int, tmp_path: Path
) -> None:
    train([1], width, batch, tmp_path / "alone")
    train([0, 1, 2], width, batch, tmp_path / "stack")
    for name in FILES:
        alone, stacked = (
            next((tmp_path / kind).glob(f"*/*/seed_1/{name}")) for kind in ("alone", "stack")
        )
        assert alone.read_bytes() == stacked.read_bytes(), name
        assert len(alone.read_text().splitlines()) > 2


@pytest.mark.parametrize("function", [torch.sigmoid, functional.softplus, lambda x: 0.9**x])
@pytest.mark.parametrize("size", [1, 7, 16, 33, 300])
def test_memberwise_functions_do_not_depend_on_the_stack(function, size: int) -> None:
    x = 3 * torch.randn(5, size, generator=torch.Generator().manual_seed(0))
    together = memberwise(function, x)
    for first in range(5):
        assert torch.equal(memberwise(function, x[first:]), together[first:])
        assert torch.equal(memberwise(function, x[first : first + 1])[0], together[first])
