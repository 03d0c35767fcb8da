"""What `mujoco-sail speed` compares, and how."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from mujoco_sail.agents.base import Entry
from mujoco_sail.recipes.task import Task
from mujoco_sail.training.benchmark import max_workers


@dataclass(frozen=True)
class Plan:
    """Sides and sizes of the comparison.

    Attributes:
        task: One that comes neither to its end nor to an evaluation while it is timed.
        entries: Agents of our core.
        peer: Stable-Baselines3's SAC.
        members: Numbers M of members.
        device: Where the updates run.
        rounds: How often everything is timed.
        seconds: How long each time.
        period: Environment steps between two evaluations of a real run.
    """

    task: Task
    entries: Sequence[Entry]
    peer: Entry
    members: Sequence[int]
    device: torch.device
    rounds: int
    seconds: float
    period: int

    @property
    def processes(self) -> int:
        """Most worker processes at once: one per core, or one on CUDA."""
        return max_workers(self.device)
