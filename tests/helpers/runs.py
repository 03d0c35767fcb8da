"""Runs in this process: members, training and result files."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from helpers.tiny import tiny_task
from mujoco_sail.agents import registry
from mujoco_sail.agents.base import Member
from mujoco_sail.training.run import Run

MakeRun = Callable[..., Run]
FILES = ("evaluations.csv", "training.csv", "feedback.csv")


def members_of(
    names: Sequence[tuple[str, int]], settings: Mapping[str, dict[str, Any]] | None = None
) -> list[Member]:
    """Members by agent and seed, with changed settings by agent."""
    changed = settings or {}
    return [Member(registry.load_spec(name, changed.get(name, {})), seed) for name, seed in names]


def trained_agent(run: Run) -> Any:
    """Agent of a run after training, with a check that everything was updated."""
    agent: Any = run.members[0].spec.agent(run)
    agent.train()
    assert agent.updates >= 50
    assert agent.reward_model.updates.min() >= 4
    return agent


_TRAINED: dict[str, Any] = {}


def trained_once(run: Run) -> Any:
    """Copy of an agent after training; equal runs are trained only once in this process."""
    key = repr((run.task, run.members, torch.get_default_dtype()))
    if key not in _TRAINED:
        _TRAINED[key] = trained_agent(run)
    return copy.deepcopy(_TRAINED[key])


def trained(run: Run) -> dict[tuple[str, int], list[torch.Tensor]]:
    """Final parameters of every member of a run."""
    agent = trained_agent(run)
    nets = (agent.actor, agent.critic, agent.target, agent.reward_model.net)
    parameters = [p for net in nets for p in net.parameters]
    parameters.append(agent.log_alpha)
    return {name: [p[m].detach() for p in parameters] for m, name in enumerate(run.names)}


def rows(run: Run, member: int, name: str) -> str:
    """Content of a result file without the column of the speed."""
    lines = (run.files[member].folder / name).read_text().splitlines()
    if name == "training.csv":
        lines = [line.rpartition(",")[0] for line in lines]
    return "\n".join(lines)


def pebble(
    make_run: MakeRun,
    agents: str = "pebble",
    settings: dict[str, dict[str, Any]] | None = None,
    **changes: Any,
) -> Any:
    """Agent after a tiny run with changed settings and task."""
    task = tiny_task(**changes)
    run = make_run([(name, 0) for name in agents.split(",")], task, settings)
    agent = run.members[0].spec.agent(run)
    agent.train()
    return agent


def stop_after(run: Run, step: int) -> None:
    """Makes a run write checkpoints and stop after a step."""
    after_step = run.after_step

    def stopping_tick(now: int, agent: Any) -> None:
        run.stopping = lambda: now == step
        after_step(now, agent)

    run.after_step = stopping_tick  # type: ignore[method-assign]


def results_of(run: Run) -> list[bytes]:
    """Contents of the result files of all members."""
    return [(one.folder / name).read_bytes() for one in run.files for name in FILES]


def contents(results: Path) -> dict[str, bytes]:
    """Contents of the result files in a folder by relative path."""
    paths = [path for name in FILES for path in results.glob(f"*/*/*/{name}")]
    return {str(path.relative_to(results)): path.read_bytes() for path in paths}


def flip(data: bytes, bit: int) -> bytes:
    """The data with one bit changed."""
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)
