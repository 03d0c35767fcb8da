"""Base class of off-policy agents, which learn from a replay buffer."""

from abc import abstractmethod
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from mujoco_sail.agents.base import Agent, Runner
from mujoco_sail.core.replay_buffer import ReplayBuffer
from mujoco_sail.recipes.task import is_due


class Due(NamedTuple):
    """Operation that learning repeats in a fixed period.

    Attributes:
        first: Environment step from which the period counts; no operation runs before
            `task.random_steps`.
        every: Period in environment steps.
        run: The operation, called with the step.
    """

    first: int
    every: int
    run: Callable[[int], object]

    def at(self, step: int) -> bool:
        """Whether the operation is due at an environment step."""
        return is_due(step, self.first, self.every)


class OffPolicy(Agent):
    """Base class of agents with a replay buffer, filled from the runner's environments."""

    def __init__(self, runner: Runner) -> None:
        super().__init__(runner)
        self.replay_buffer = ReplayBuffer(
            len(runner.members),
            self.task.stored_transitions,
            *runner.sizes,
            self.query_window,
            runner.device,
        )

    @property
    def query_window(self) -> int:
        """Number of newest episodes from which segments are drawn."""
        return self.task.query_window

    def train(self) -> None:
        """Trains, with one environment step and one learning step at a time."""
        envs = self.runner.envs
        for step in range(self.runner.step + 1, self.task.steps + 1):
            observation = self._tensor(envs.observation)
            action = self.act(observation, step)
            command = action.cpu().numpy()
            # The update is launched before the environment step, so that the GPU learns while the
            # CPU simulates. It uses the transitions of earlier steps only.
            if step >= self.task.random_steps and len(self.replay_buffer):
                self.learn_step(step)
            result = envs.step(command)
            task_reward = self._tensor(result.reward)
            self.replay_buffer.add(
                observation,
                action,
                self.training_reward(observation, action, task_reward),
                task_reward,
                self._tensor(result.observation),
                self._tensor(result.terminated),
                result.terminated | result.truncated,
            )
            self.runner.after_step(step, self)

    @abstractmethod
    def act(self, observation: Tensor, step: int) -> Tensor:
        """Exploratory actions in [-1, 1], [M, A], for observations [M, O]."""

    def learn_step(self, step: int) -> None:
        """Runs the operations of the schedule that are due at an environment step."""
        for due in self.schedule():
            if due.at(step):
                due.run(step)

    @abstractmethod
    def schedule(self) -> list[Due]:
        """Operations of learning, in the order in which they run within an environment step."""

    def training_reward(self, observation: Tensor, action: Tensor, task_reward: Tensor) -> Tensor:
        """Reward to maximise, [M]; the task reward by default."""
        return task_reward

    def sample(self, uniform: Tensor) -> Tensor:
        """Samples transitions with the reward to maximise, as rows [M, B, W].

        Args:
            uniform: Uniform random numbers in [0, 1), [M, B].
        """
        return self.replay_buffer.sample(uniform)

    def _tensor(self, array: np.ndarray) -> Tensor:
        return torch.as_tensor(array, dtype=self.replay_buffer.reward.dtype, device=self.device)
