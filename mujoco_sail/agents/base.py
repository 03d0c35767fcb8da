"""What the harness asks of every agent."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

if TYPE_CHECKING:
    from mujoco_sail.run import Run


class Agent(ABC):
    """One stack of members: the same class and shapes, each with a seed of its own.

    A subclass names its hyperparameters in `Settings`, a frozen dataclass whose fields are
    declared with `mujoco_sail.settings.setting` and filled from the agent's TOML.

    Args:
        run: The task, the members with their settings and seeds, the teacher and the device.
    """

    Settings: ClassVar[type]
    # Whether several members may train as one object; otherwise each gets an object of its own.
    stackable: ClassVar[bool] = True

    def __init__(self, run: Run) -> None:
        self.run = run
        self.task = run.task
        self.device = run.device
        # Members of a stack differ in fields that are `per_member` only.
        self.settings: Any = run.members[0].settings

    def per_member(self, name: str) -> Tensor:
        """A per-member setting as a tensor, [M]."""
        values = [getattr(member.settings, name) for member in self.run.members]
        return torch.tensor(values, device=self.device)

    @abstractmethod
    def train(self) -> None:
        """Trains for `task.steps` environment steps, calling `run.tick` after each."""

    @abstractmethod
    def policy(self, observation: Tensor) -> Tensor:
        """Deterministic actions, as the evaluation wants them.

        Args:
            observation: [M, K, O].

        Returns:
            [M, K, A] in [-1, 1].
        """

    @abstractmethod
    def metrics(self) -> dict[str, Tensor]:
        """Quantities for `training.csv`, each [M]; the keys never change."""
