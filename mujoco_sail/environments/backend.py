"""What simulates the environments of a `VectorEnv`."""

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
from gymnasium.spaces import flatdim

from mujoco_sail.environments.factory import make_env
from mujoco_sail.environments.wrappers import Array, CrashGuard
from mujoco_sail.recipes.task import Task


class Backend(Protocol):
    """Simulates the M environments of a `VectorEnv`; a call is about R of them, the rows."""

    action_size: int  # A

    @property
    def crashes(self) -> Mapping[int, str]:
        """Rows that crashed, with the reason; all their numbers are nan from then on."""

    def start(self, rows: Array, episodes: Array) -> Array:
        """Starts episodes, by number [R]: any of them for all rows, for some only each one's next.

        Returns:
            First observations, [R, O] float32, an array of the caller's own.
        """

    def step(self, rows: Array, actions: Array) -> tuple[Array, Array, Array, Array, Array]:
        """Steps rows, actions [R, A].

        Returns:
            What `StepResult` names, in its order, arrays of the caller's own.
        """

    def close(self) -> None:
        """Releases the simulators."""


class GymnasiumBackend:
    """Environments of one task side by side, a row per seed; see `Backend`.

    Args:
        task: The task.
        seeds: Seeds of the M rows.
        purpose: What the episodes are for.
    """

    def __init__(self, task: Task, seeds: Sequence[int], purpose: str) -> None:
        self.envs = [CrashGuard(make_env(task, seed, purpose)) for seed in seeds]
        self.action_size = flatdim(self.envs[0].action_space)

    @property
    def crashes(self) -> Mapping[int, str]:
        """See `Backend.crashes`."""
        return {row: env.crash for row, env in enumerate(self.envs) if env.crash is not None}

    def start(self, rows: Array, episodes: Array) -> Array:
        """See `Backend.start`."""
        for row, episode in zip(rows, episodes, strict=True):
            self.envs[row].set_wrapper_attr("episode", int(episode))
        return np.stack([self.envs[row].reset()[0] for row in rows])

    def step(self, rows: Array, actions: Array) -> tuple[Array, Array, Array, Array, Array]:
        """See `Backend.step`."""
        # SyncVectorEnv does the same, at a cost of 6 to 40 us a row.
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
        """See `Backend.close`."""
        for env in self.envs:
            env.close()
