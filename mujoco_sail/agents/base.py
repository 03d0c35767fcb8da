"""What the harness asks of every agent."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

from mujoco_sail.core.state import Tree, capture, restore
from mujoco_sail.policies.policy import About, Activation, Policy, Squash

if TYPE_CHECKING:
    from mujoco_sail.training.run import Run

# Attributes that every run makes afresh from its recipes.
HARNESS = ("run", "task", "device", "settings")


class Agent(ABC):
    """One stack of members: the same class and shapes, each with a seed of its own.

    A subclass names its hyperparameters in `Settings`, a frozen dataclass whose fields are
    declared with `mujoco_sail.recipes.settings.setting` and filled from the agent's TOML.

    Args:
        run: The task, the members with their settings and seeds, the teacher and the device.
    """

    Settings: ClassVar[type]
    # Whether several members may train as one object; otherwise each gets an object of its own.
    stackable: ClassVar[bool] = True
    # Whether it trains on environments that it makes itself, not on `run.worlds`.
    own_environments: ClassVar[bool] = False
    # Whether a checkpoint can hold it; otherwise a run that was cut off starts over.
    resumable: ClassVar[bool] = True

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

    def state(self) -> Tree:
        """What a checkpoint holds: every attribute but the harness and names that begin with _.

        Raises:
            TypeError: An attribute that it cannot hold.
        """
        return {
            name: capture(value, f"{type(self).__name__}.{name}")
            for name, value in vars(self).items()
            if name not in HARNESS and not name.startswith("_")
        }

    def load(self, saved: Tree) -> None:
        """Takes over the state of an agent of the same class and shapes."""
        for name, value in saved.items():
            setattr(self, name, restore(getattr(self, name), value))

    def health(self) -> dict[str, Tensor]:
        """Quantities that must be finite, each [M]; a member with one that is not has failed."""
        return {}

    @abstractmethod
    def train(self) -> None:
        """Trains from step `run.step` to `task.steps`, calling `run.tick` after each step."""

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

    def policies(self, step: int) -> list[Policy]:
        """Each member's deterministic policy as it can be written down.

        An agent that acts in its own way says so here too; without this method its runs have no
        policy to export.

        Args:
            step: Environment steps done.

        Returns:
            M policies whose `act` is `policy`, or none.
        """
        return []

    def _written(
        self,
        m: int,
        step: int,
        layers: Iterable[tuple[Tensor, Tensor]],
        activation: Activation,
        squash: Squash,
    ) -> Policy:
        """The policy of member m from its layers' weights [out, in] and biases [out]."""
        task, member = self.task, self.run.members[m]
        arrays = [[t.detach().float().cpu().numpy() for t in layer] for layer in layers]
        return Policy(
            [weight for weight, _ in arrays],
            [bias for _, bias in arrays],
            activation,
            squash,
            About(
                env=task.name,
                id=task.id,
                protocol=task.protocol,
                agent=member.entry.name,
                seed=member.seed,
                step=step,
            ),
        )
