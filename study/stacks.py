"""Stacks of PEBBLE or SAIL that can be saved, loaded and fitted with other settings."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from mujoco_sail.agents.base import Agent, Member
from mujoco_sail.agents.registry import load_spec
from mujoco_sail.agents.sail import SAIL
from mujoco_sail.core.streams import Streams
from mujoco_sail.environments.factory import space_sizes
from mujoco_sail.environments.vector import VectorEnv
from mujoco_sail.preferences.sessions import Feedback
from mujoco_sail.recipes.load import load_task
from mujoco_sail.recipes.task import Task
from mujoco_sail.training.messages import Stopped


class Stack:
    """Runner that trains an agent between given steps, without result files."""

    def __init__(self, task: Task, members: Sequence[Member]) -> None:
        self.task, self.members, self.device = task, members, torch.device("cpu")
        self.seeds = [member.seed for member in members]
        self.sizes = space_sizes(task)
        self.feedback = Feedback(task, self.seeds, self.device)
        self.say = print
        self.step, self.until = 0, {task.steps}
        self.agent: Any = members[0].spec.agent(self)

    @cached_property
    def envs(self) -> VectorEnv:
        """Training environments, one per member."""
        return VectorEnv(self.task, self.seeds, "training")

    def after_step(self, step: int, agent: Agent) -> None:
        """Stops the training at the steps in `until`."""
        self.step = step
        if step in self.until:
            raise Stopped

    def waiting(self) -> None:
        """Does nothing: nothing asks a stack to stop while an update is compiled."""

    def train(self, until: int) -> None:
        """Trains until the end of a step."""
        self.until = {until}
        with suppress(Stopped):
            self.agent.train()

    def save(self, path: Path) -> None:
        """Saves the state of the stack."""
        parts = {name: getattr(self, name).state() for name in ("agent", "envs", "feedback")}
        torch.save({"step": self.step, **parts}, path.with_suffix(".part"))
        path.with_suffix(".part").rename(path)

    def load(self, path: Path) -> None:
        """Loads a saved state."""
        saved = torch.load(path, weights_only=True)
        self.step = saved["step"]
        for name in ("agent", "envs", "feedback"):
            getattr(self, name).load(saved[name])


class Refitted(SAIL):
    """SAIL with a choice of the random batches of the reward fit."""

    batches = 0

    def streams(self, purpose: str, index: int = 0) -> Streams:
        """Random streams of the members for one purpose; `batches` selects those of the fit."""
        if purpose == "reward batches" and self.batches:
            purpose = f"{purpose} {self.batches}"
        return super().streams(purpose, index)


def stack(env: str, seeds: Sequence[int], **settings: Any) -> Stack:
    """Creates a stack of PEBBLE or SAIL with uniform queries."""
    overrides = {"queries": "uniform", **settings}
    spec = replace(load_spec("pebble", overrides), agent=Refitted)
    task = load_task(env, "study", {"backend": "envpool"}, None)
    return Stack(task, [Member(spec, seed) for seed in seeds])
