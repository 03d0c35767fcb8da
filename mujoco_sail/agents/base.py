"""What an agent is: its recipe spec, its members, what it must do and what it may use."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor

from mujoco_sail.agents.plugins import Plugin
from mujoco_sail.core.state import Tree, capture, restore
from mujoco_sail.environments.vector import VectorEnv
from mujoco_sail.policies.policy import About, Activation, Policy, Squash
from mujoco_sail.preferences.sessions import Feedback, Pairs
from mujoco_sail.recipes.task import Task


@dataclass(frozen=True)
class AgentSpec:
    """One line of a benchmark: an agent class with all its hyperparameters.

    Attributes:
        name: Name in tables and result folders.
        title: One line for `mujoco-sail list`.
        path: `package.module:Class` of the agent.
        plugin: The modules next to the recipe that have the class; None if it is installed.
        agent: The class.
        settings: Instance of the class's `Settings`.
    """

    name: str
    title: str
    path: str
    # Before the class: fields are pickled in order, and a worker needs the one to find the other.
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
    """All that an agent may use of what runs it."""

    @property
    def task(self) -> Task:
        """The environment and its protocol."""

    @property
    def members(self) -> Sequence[Member]:
        """The M members that train as this stack."""

    @property
    def seeds(self) -> Sequence[int]:
        """Their seeds."""

    @property
    def sizes(self) -> tuple[int, int]:
        """O and A, the sizes of an observation and of an action."""

    @property
    def device(self) -> torch.device:
        """Where networks, replay buffer and updates live."""

    @property
    def step(self) -> int:
        """Environment steps done before `Agent.train` is called: 0, or those of a checkpoint."""

    @property
    def envs(self) -> VectorEnv:
        """The training environments, one per member; they are made at the first use."""

    @property
    def feedback(self) -> Feedback:
        """The teacher of this stack, with what is left of its budget of labels."""

    @property
    def say(self) -> Callable[[str], None]:
        """To be called with one line that a user should know at once."""

    def waiting(self) -> None:
        """To be called again and again while an agent waits for another process.

        It ends the training by raising an exception, which the agent lets through, where the stack
        shall stop.
        """

    def after_step(self, step: int, agent: Agent) -> None:
        """To be called after every environment step.

        It evaluates, logs, writes checkpoints and checks that all numbers are finite, each where
        it is due. It may end the training by raising an exception, which the agent lets through.

        Args:
            step: Environment steps done, this one included.
            agent: The caller.
        """


# Attributes that are made anew from the recipes, hence in no checkpoint.
NOT_SAVED = ("runner", "task", "device", "settings")


class Agent(ABC):
    """One stack of members: the same class and shapes, each with a seed of its own.

    A subclass names its hyperparameters in `Settings`, a frozen dataclass whose fields are
    declared with `mujoco_sail.recipes.setting` and filled from the agent's TOML.

    Args:
        runner: Task, members, teacher, environments and device.
    """

    Settings: ClassVar[type]
    # Whether several members may train as one object; otherwise each gets an object of its own.
    stackable: ClassVar[bool] = True
    # Whether it trains on environments that it makes itself, not on `runner.envs`.
    own_environments: ClassVar[bool] = False
    # Whether a checkpoint can hold it; otherwise a run that was cut off starts over.
    resumable: ClassVar[bool] = True

    def __init__(self, runner: Runner) -> None:
        self.runner = runner
        self.task = runner.task
        self.device = runner.device
        # Members of a stack differ in fields that are `per_member` only.
        self.settings: Any = runner.members[0].settings

    def per_member(self, name: str) -> Tensor:
        """A per-member setting as a tensor, [M]."""
        values = [getattr(member.settings, name) for member in self.runner.members]
        return torch.tensor(values, device=self.device)

    def state(self) -> Tree:
        """What a checkpoint holds: all attributes but `NOT_SAVED` and those that begin with _.

        Raises:
            TypeError: A checkpoint cannot hold one of the attributes.
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
        """Quantities, each [M], that must be finite; a member fails when one of its own is not."""
        return {}

    @abstractmethod
    def train(self) -> None:
        """Trains to step `task.steps`, with a call of `runner.after_step` after every step."""

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

    def export_policies(self, step: int) -> list[Policy]:
        """Each member's deterministic policy, to be written to a file.

        An agent whose `policy` is its own overrides this too; the runs of an agent that does not
        provide policies have none to export.

        Args:
            step: Environment steps done.

        Returns:
            M policies that act as `policy` does, or an empty list.
        """
        return []

    def labelled_pairs(self) -> tuple[Pairs, Tensor] | None:
        """All pairs that have a label so far, in their order, and the labels, [M, P].

        None, as here, if the agent learns from none.
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
        """The policy of member m from its layers' weights [out, in] and biases [out]."""
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
