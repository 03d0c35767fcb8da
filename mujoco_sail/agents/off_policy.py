"""Base class of off-policy agents: they act, store transitions and learn from stored ones."""

from abc import abstractmethod
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from mujoco_sail.agents.base import Agent, Runner
from mujoco_sail.core.replay_buffer import ReplayBuffer
from mujoco_sail.core.streams import Streams


class Due(NamedTuple):
    """Part of a schedule.

    Attributes:
        first: The first environment step at which it is due.
        every: Environment steps from one time to the next.
        act: What is done, given the step.
    """

    first: int
    every: int
    act: Callable[[int], object]


class OffPolicy(Agent):
    """An agent with a replay buffer, filled from the runner's environments."""

    def __init__(self, runner: Runner) -> None:
        super().__init__(runner)
        self.replay_buffer = ReplayBuffer(
            len(runner.members),
            min(self.task.replay_capacity, self.task.steps),
            *runner.sizes,
            self.query_window,
            runner.device,
        )

    @property
    def query_window(self) -> int:
        """How many of the newest episodes segments come from."""
        return self.task.query_window

    def streams(self, purpose: str, index: int = 0) -> Streams:
        """Generators of the members for one purpose."""
        return Streams(self.runner.seeds, purpose, self.device, index)

    def train(self) -> None:
        """One environment step and one update at a time, see `Agent.train`."""
        envs = self.runner.envs
        for step in range(self.runner.step + 1, self.task.steps + 1):
            observation = self._tensor(envs.observation)
            action = self.act(observation, step)
            command = action.cpu().numpy()
            # The update is launched before the environments step, so that a GPU learns while the
            # CPU simulates; it draws from the transitions of the steps before this one.
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
        """Exploring actions, [M, A] in [-1, 1], for observations [M, O]."""

    def learn_step(self, step: int) -> None:
        """Does what the schedule has for an environment step."""
        for due in self.schedule():
            if step >= due.first and (step - due.first) % due.every == 0:
                due.act(step)

    @abstractmethod
    def schedule(self) -> list[Due]:
        """What learning consists of, in the order within an environment step."""

    def training_reward(self, observation: Tensor, action: Tensor, task_reward: Tensor) -> Tensor:
        """The reward that the learner maximises, [M]: here the task's own."""
        return task_reward

    def sample(self, uniform: Tensor) -> Tensor:
        """Rows of transitions with the reward that the learner maximises, [M, B, W].

        Args:
            uniform: Random numbers in [0, 1), [M, B].
        """
        return self.replay_buffer.sample(uniform)

    def _tensor(self, array: np.ndarray) -> Tensor:
        return torch.as_tensor(array, dtype=self.replay_buffer.reward.dtype, device=self.device)
