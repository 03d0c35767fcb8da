"""Evaluation of deterministic policies in separate environments."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from mujoco_sail.core.streams import seed_for
from mujoco_sail.environments.vector import VectorEnv, threads_for
from mujoco_sail.recipes.task import Task


@dataclass(frozen=True)
class EvaluationResult:
    """Result of an evaluation.

    Attributes:
        returns: Undiscounted task returns, [M, K].
        success: Whether each episode succeeded at any step, [M, K]; None if the task does not
            define success.
        faults: Members with invalid results, and the reasons.
    """

    returns: np.ndarray
    success: np.ndarray | None
    faults: dict[int, str]


class Evaluation:
    """Evaluation with K parallel episodes per member.

    The initial states depend only on the member's seed, the number of the evaluation and the number
    of the episode, so agents with equal seeds start from the same states.

    Args:
        task: Environment and number of episodes.
        seeds: Seeds of the M members.
        device: Device of the policies.
    """

    def __init__(self, task: Task, seeds: list[int], device: torch.device) -> None:
        self.task, self.seeds, self.device = task, seeds, device

    @cached_property
    def envs(self) -> VectorEnv:
        """Environments, one per member and episode, created at first use."""
        rows = [
            seed_for(seed, "evaluation", episode)
            for seed in self.seeds
            for episode in range(self.task.evaluation_episodes)
        ]
        return VectorEnv(self.task, rows, "evaluation", threads_for(self.device))

    def __call__(self, policy: Callable[[Tensor], Tensor], number: int) -> EvaluationResult:
        """Runs the episodes until they end.

        Args:
            policy: Function from observations [M, K, O] to deterministic actions [M, K, A].
            number: Number of this evaluation.
        """
        shape = (len(self.seeds), self.task.evaluation_episodes)
        envs = self.envs
        envs.reset(number)
        returns, success = np.zeros(shape).reshape(-1), np.zeros(shape, bool).reshape(-1)
        running = np.ones(len(returns), bool)
        while running.any():
            observation = torch.as_tensor(
                envs.observation, dtype=torch.get_default_dtype(), device=self.device
            )
            action = policy(observation.view(*shape, -1)).flatten(0, 1)
            result = envs.step_running(running, action.cpu().numpy())
            returns += result.reward
            success |= result.success
            running &= ~(result.terminated | result.truncated)
        return EvaluationResult(
            returns.reshape(shape),
            success.reshape(shape) if envs.has_success else None,
            {row // shape[1]: reason for row, reason in envs.faults.items()},
        )
