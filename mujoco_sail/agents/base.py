"""Base class of all agents, and the interface through which they use the runner."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor

from mujoco_sail.agents.plugins import Plugin
from mujoco_sail.core.state import Tree, capture, restore
from mujoco_sail.core.streams import Streams
from mujoco_sail.environments.vector import VectorEnv
from mujoco_sail.policies.policy import About, Activation, Policy, Squash
from mujoco_sail.preferences.pairs import Pairs
from mujoco_sail.preferences.sessions import Feedback
from mujoco_sail.recipes.task import Task


@dataclass(frozen=True)
class AgentSpec:
    """Agent specification: an agent class and all its hyperparameters.

    Attributes:
        name: Name in tables and result folders.
        title: One-line description, shown by `mujoco-sail list`.
        path: `package.module:Class` of the agent.
        plugin: Modules next to the recipe that define the class; None if it is installed.
        agent: The class.
        settings: Instance of the class's `Settings`.
    """

    name: str
    title: str
    path: str
    # Before `agent`: fields are unpickled in order, and a worker needs the plug-in to import the
    # class.
    plugin: Plugin | None
    agent: type[Agent]
    settings: Any


@dataclass(frozen=True)
class Member:
    """One agent spec with one seed."""

    spec: AgentSpec
    seed: int

    @property
    def settings(self) -> Any:
        """The hyperparameters of the agent's recipe."""
        return self.spec.settings


class Runner(Protocol):
    """The part of the runner that an agent may use."""

    @property
    def task(self) -> Task:
        """Environment and protocol."""

    @property
    def members(self) -> Sequence[Member]:
        """The M members of the stack."""

    @property
    def seeds(self) -> Sequence[int]:
        """Seeds of the members."""

    @property
    def sizes(self) -> tuple[int, int]:
        """O and A, the sizes of an observation and of an action."""

    @property
    def device(self) -> torch.device:
        """Device of the networks, the replay buffer and the updates."""

    @property
    def step(self) -> int:
        """Environment steps done before `Agent.train` is called: 0, or the step of a checkpoint."""

    @property
    def envs(self) -> VectorEnv:
        """Training environments, one per member, created at first use."""

    @property
    def feedback(self) -> Feedback:
        """Teacher of the stack and its remaining label budget."""

    @property
    def say(self) -> Callable[[str], None]:
        """Function that shows one line to the user immediately."""

    def waiting(self) -> None:
        """Must be called repeatedly while the agent waits for another process.

        If the stack must stop, it raises an exception, which the agent must not catch.
        """

    def after_step(self, step: int, agent: Agent) -> None:
        """Must be called after every environment step.

        It evaluates, logs, writes checkpoints and checks that all numbers are finite, each when it
        is due. To end the training it raises an exception, which the agent must not catch.

        Args:
            step: Environment steps done, including this one.
            agent: The calling agent.
        """


class Exportable(Protocol):
    """Trained policy of one member."""

    def save(self, path: Path | str) -> list[Path]:
        """Writes the policy under a name without a suffix; returns the files."""


# Attributes that are created from the recipes, so checkpoints do not contain them.
NOT_SAVED = ("runner", "task", "device", "settings")


class Agent(ABC):
    """Base class of agents; an object trains one stack of members.

    The members of a stack have the same agent class and equal settings, but for those declared
    `per_member`, and each has its own seed.
    A subclass declares its hyperparameters in `Settings`, a frozen dataclass whose fields are
    created with `mujoco_sail.recipes.setting`. Their values are read from the agent's recipe.

    Args:
        runner: Task, members, teacher, environments and device.
    """

    Settings: ClassVar[type]
    # Whether one object can train several members; otherwise each member has its own object.
    stackable: ClassVar[bool] = True
    # Whether the agent creates its own training environments instead of using `runner.envs`.
    own_environments: ClassVar[bool] = False
    # Whether the agent can be checkpointed; otherwise an interrupted run starts from step 0.
    resumable: ClassVar[bool] = True

    def __init__(self, runner: Runner) -> None:
        self.runner = runner
        self.task = runner.task
        self.device = runner.device
        # Members of a stack differ only in fields that are `per_member`.
        self.settings: Any = runner.members[0].settings

    @classmethod
    def obstacle(cls, task: Task) -> str:
        """Why this agent cannot be trained on a task, one line; empty if it can."""
        return ""

    @classmethod
    def memory(cls, task: Task) -> float:
        """Bytes that an object needs besides networks of the task's size and replay buffers."""
        return 0.0

    def per_member(self, name: str) -> Tensor:
        """Values of a per-member setting, [M]."""
        values = [getattr(member.settings, name) for member in self.runner.members]
        return torch.tensor(values, device=self.device)

    def streams(self, purpose: str, index: int = 0) -> Streams:
        """Random streams of the members for one purpose."""
        return Streams(self.runner.seeds, purpose, self.device, index)

    def state(self) -> Tree:
        """State for a checkpoint: all attributes except `NOT_SAVED` and those that begin with _.

        Raises:
            TypeError: An attribute has a type that cannot be saved.
        """
        return {
            name: capture(value, f"{type(self).__name__}.{name}")
            for name, value in vars(self).items()
            if name not in NOT_SAVED and not name.startswith("_")
        }

    def load(self, saved: Tree) -> None:
        """Restores the state of an agent of the same class and shapes."""
        for name, value in saved.items():
            setattr(self, name, restore(getattr(self, name), value))

    def health(self) -> dict[str, Tensor]:
        """Quantities that must be finite, each [M]; a member with a non-finite value fails."""
        return {}

    @abstractmethod
    def train(self) -> None:
        """Trains until step `task.steps` and calls `runner.after_step` after every step."""

    @abstractmethod
    def policy(self, observation: Tensor) -> Tensor:
        """Computes deterministic actions for the evaluation.

        Args:
            observation: Observations of K environments per member, [M, K, O].

        Returns:
            Actions in [-1, 1], [M, K, A].
        """

    @abstractmethod
    def metrics(self) -> dict[str, Tensor]:
        """Quantities for `training.csv`, each [M]; every call must return the same keys."""

    def evaluated(self) -> dict[str, Tensor]:
        """Quantities of the newest evaluation for further columns of `evaluations.csv`, each [M].

        `success_rate` fills the column of that name if the task does not define success.
        """
        return {}

    def export_policies(self, step: int) -> Sequence[Exportable]:
        """Deterministic policy of every member, to be written to files.

        A subclass that overrides `policy` must override this method too. If it returns an empty
        list, the runs have no policy to export.

        Args:
            step: Environment steps done.

        Returns:
            M policies with the same actions as `policy`, or an empty list.
        """
        return []

    def labelled_pairs(self) -> tuple[Pairs, Tensor] | None:
        """All pairs labelled so far, in the order of labelling, and the labels, [M, P].

        None if the agent does not learn from preferences.
        """
        return None

    def _make_policy(
        self,
        m: int,
        step: int,
        layers: Iterable[tuple[Tensor, Tensor]],
        activation: Activation,
        squash: Squash,
    ) -> Policy:
        """Policy of member m from the weights [out, in] and biases [out] of its layers."""
        task, member = self.task, self.runner.members[m]
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
                agent=member.spec.name,
                seed=member.seed,
                step=step,
            ),
        )
