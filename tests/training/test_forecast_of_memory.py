"""Forecast of the memory of a benchmark."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from helpers.tiny import CPU

from mujoco_sail.cli import main
from mujoco_sail.core.replay_buffer import ReplayBuffer
from mujoco_sail.recipes.load import load_task
from mujoco_sail.training import forecast


def test_the_replay_buffer_dominates_the_estimate_of_the_papers_grid() -> None:
    task = load_task("walker_walk", "paper", {})
    host, device = forecast.memory_needed(task, 12, (24, 6), CPU, 2)
    replay_buffer = 12 * 400_000 * ReplayBuffer.row_bytes(24, 6)
    assert replay_buffer < host < replay_buffer + 4 * forecast.GIB
    assert device == 0
    on_host, on_device = forecast.memory_needed(task, 12, (24, 6), torch.device("cuda"), 1)
    assert on_device > replay_buffer
    assert on_host < 3 * forecast.GIB


def test_a_benchmark_that_needs_too_much_memory_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--env", "walker_walk", "--agents", "pebble,sail", "--seeds", "500"]
    assert main(["run", *options, "--device", "cpu", "--results", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert "1000 members need about" in error
    assert "GiB are free" in error
    assert len(error.splitlines()) == 2
    assert not list(tmp_path.iterdir())
