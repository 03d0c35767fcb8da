"""Simulators of a `VectorEnv`."""

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
from gymnasium.spaces import flatdim

from mujoco_sail.environments.factory import make_env
from mujoco_sail.environments.wrappers import Array, CrashGuard
from mujoco_sail.recipes.task import Task


class Backend(Protocol):
    """Protocol of a simulator of the M environments of a `VectorEnv`; calls are for R of them.

    The index of an environment is called its row.
    """

    action_size: int  # A

    @property
    def crashes(self) -> Mapping[int, str]:
        """Reason of the crash by row, for rows that crashed; their values are nan from then on."""

    def start(self, rows: Array, episodes: Array) -> Array:
        """Starts an episode in each of some rows.

        Args:
            rows: Rows, [R].
            episodes: Numbers of the episodes, [R]. If `rows` are not all rows, each must be the
                row's next episode.

        Returns:
            First observations, [R, O] float32, in a new array.
        """

    def step(self, rows: Array, actions: Array) -> tuple[Array, Array, Array, Array, Array]:
        """Steps some rows.

        Args:
            rows: Rows, [R].
            actions: Actions, [R, A].

        Returns:
            The fields of `StepResult` in their order, as new arrays.
        """

    def close(self) -> None:
        """Releases the simulators."""


class GymnasiumBackend:
    """Backend of environments of Gymnasium, dm_control and Meta-World, one per seed.

    Args:
        task: The task.
        seeds: Seeds of the M rows.
        purpose: Purpose of the episodes, such as training or evaluation.
    """

    def __init__(self, task: Task, seeds: Sequence[int], purpose: str) -> None:
        self.envs = [CrashGuard(make_env(task, seed, purpose)) for seed in seeds]
        self.action_size = flatdim(self.envs[0].action_space)

    @property
    def crashes(self) -> Mapping[int, str]:
        """Reason of the crash by row, for rows that crashed."""
        return {row: env.crash for row, env in enumerate(self.envs) if env.crash is not None}

    def start(self, rows: Array, episodes: Array) -> Array:
        """Starts an episode in each of some rows, see `Backend.start`."""
        for row, episode in zip(rows, episodes, strict=True):
            self.envs[row].set_wrapper_attr("episode", int(episode))
        return np.stack([self.envs[row].reset()[0] for row in rows])

    def step(self, rows: Array, actions: Array) -> tuple[Array, Array, Array, Array, Array]:
        """Steps some rows, see `Backend.step`."""
        # Gymnasium's SyncVectorEnv does the same, but takes 6 to 40 us more per row.
        steps = [self.envs[row].step(action) for row, action in zip(rows, actions, strict=True)]
        observations, rewards, terminated, truncated, infos = zip(*steps, strict=True)
        return (
            np.stack(observations),
            np.array(rewards, np.float64),
            np.array(terminated, np.bool_),
            np.array(truncated, np.bool_),
            np.array([info.get("success", 0) > 0 for info in infos]),
        )

    def close(self) -> None:
        """Releases the simulators."""
        for env in self.envs:
            env.close()
