"""What one worker trains: a process of this machine, or a task of a cluster."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from mujoco_sail.agents.base import Member
from mujoco_sail.recipes.task import Task
from mujoco_sail.training.extras import NO_EXTRAS, Extras


@dataclass(frozen=True)
class WorkUnit:
    """Stacks of one environment, and where and how they train.

    Attributes:
        task: Environment and protocol.
        stacks: They train one after the other.
        device: Where their updates run.
        results: Folder that the run folders lie in.
        extras: What the runs leave beside their own files.
    """

    task: Task
    stacks: Sequence[Sequence[Member]]
    device: torch.device
    results: Path
    extras: Extras = NO_EXTRAS

    @property
    def members(self) -> tuple[tuple[str, int], ...]:
        """Agent and seed of each."""
        return tuple((m.spec.name, m.seed) for stack in self.stacks for m in stack)

    @property
    def steps(self) -> int:
        """Member-steps of all of it."""
        return self.task.steps * len(self.members)
