"""Returns of the deterministic policies, on environments of their own."""

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
    """What one evaluation measured.

    Attributes:
        returns: Undiscounted task returns, [M, K].
        success: Whether an episode ever succeeded, [M, K]; None where the task has no success.
        faults: Members whose numbers are not to be used, and why.
    """

    returns: np.ndarray
    success: np.ndarray | None
    faults: dict[int, str]


class Evaluation:
    """K episodes of every member, all at once.

    The starts depend on a member's seed, the number of the evaluation and of the episode
    alone: arms with equal seeds face the same starts.

    Args:
        task: The environment and the number of episodes.
        seeds: Seeds of the M members.
        device: Where the policies act.
    """

    def __init__(self, task: Task, seeds: list[int], device: torch.device) -> None:
        self.task, self.seeds, self.device = task, seeds, device

    @cached_property
    def envs(self) -> VectorEnv:
        """One environment per member and episode, made at first use."""
        rows = [
            seed_for(seed, "evaluation", episode)
            for seed in self.seeds
            for episode in range(self.task.evaluation_episodes)
        ]
        return VectorEnv(self.task, rows, "evaluation", threads_for(self.device))

    def __call__(self, policy: Callable[[Tensor], Tensor], number: int) -> EvaluationResult:
        """Plays the episodes to their ends.

        Args:
            policy: Deterministic actions [M, K, A] for observations [M, K, O].
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
            result = envs.step(action.cpu().numpy())
            returns += np.where(running, result.reward, 0)
            success |= running & result.success
            running &= ~(result.terminated | result.truncated)
        return EvaluationResult(
            returns.reshape(shape),
            success.reshape(shape) if envs.has_success else None,
            {row // shape[1]: reason for row, reason in envs.faults.items()},
        )
