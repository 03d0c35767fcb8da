"""Forecast of the memory of a benchmark."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from helpers.tiny import CPU

from mujoco_sail.agents.base import Member
from mujoco_sail.agents.registry import load_spec
from mujoco_sail.cli import main
from mujoco_sail.core.replay_buffer import ReplayBuffer
from mujoco_sail.recipes.load import load_task
from mujoco_sail.training import forecast


def test_the_replay_buffer_dominates_the_estimate_of_the_papers_grid() -> None:
    task = load_task("walker_walk", "paper", {})
    six = [Member(load_spec("sac", {}), seed) for seed in range(6)]
    host, device = forecast.memory_needed(task, [[six], [six]], (24, 6), CPU)
    replay_buffer = 12 * 400_000 * ReplayBuffer.row_bytes(24, 6)
    assert replay_buffer < host < replay_buffer + 4 * forecast.GIB
    assert device == 0
    by_worker = [[six + six]]
    on_host, on_device = forecast.memory_needed(task, by_worker, (24, 6), torch.device("cuda"))
    assert on_device > replay_buffer
    assert on_host < 3 * forecast.GIB


def test_stacks_that_a_worker_trains_one_after_the_other_do_not_add_up() -> None:
    task = load_task("walker_walk", "paper", {})
    stack = [Member(load_spec("sac", {}), seed) for seed in range(3)]
    one, _ = forecast.memory_needed(task, [[stack]], (24, 6), CPU)
    assert forecast.memory_needed(task, [[stack, stack[:2]]], (24, 6), CPU) == (one, 0)
    assert forecast.memory_needed(task, [[stack], [stack]], (24, 6), CPU) == (2 * one, 0)


def test_labelled_pairs_are_counted_twice_for_agents_that_keep_them() -> None:
    """On sweep_into 19 900 labels in reach, each of two segments of 50 steps; joining copies."""
    task = load_task("sweep_into", "paper", {})
    sac, pebble = (
        forecast.memory_needed(task, [[[Member(load_spec(name, {}), 0)]]], (39, 4), CPU)[0]
        for name in ("sac", "pebble")
    )
    assert pebble - sac == 2 * 19_900 * 2 * 50 * 4 * (39 + 4 + 2)


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
