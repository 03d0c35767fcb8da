"""Vectorised environments of one task, with any backend.

The initial state of an episode depends only on a seed, a purpose and the episode's number, so a
resumed run restores its environments by starting the same episodes and repeating the actions.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from mujoco_sail.core.state import Tree
from mujoco_sail.environments.backend import Backend, GymnasiumBackend
from mujoco_sail.environments.envpool import EnvPoolBackend
from mujoco_sail.environments.states import RecentStates
from mujoco_sail.environments.wrappers import Array
from mujoco_sail.recipes.ids import has_success
from mujoco_sail.recipes.task import Task
from mujoco_sail.system.machine import available_cores


@dataclass(frozen=True, eq=False)
class StepResult:
    """Result of a step of all rows.

    Attributes:
        observation: Next observations, [M, O]; at the end of an episode its final one.
        reward: Rewards of the task in float64, as the simulators give them, [M].
        terminated: Whether the environment ended the episode, [M].
        truncated: Whether the time limit ended the episode, [M].
        success: Whether the task is solved now, [M]; False if a task does not define success.
    """

    observation: NDArray[np.float32]
    reward: NDArray[np.float64]
    terminated: NDArray[np.bool_]
    truncated: NDArray[np.bool_]
    success: NDArray[np.bool_]


class VectorEnv:
    """Vector of environments of one task, one independent row per seed.

    A row whose episode ends starts its next episode in the same step (same-step autoreset).
    Returned arrays are never written to again.

    Attributes:
        observation: Current observations, [M, O] float32.
        has_success: Whether the task defines success.
        states: States after the newest steps, if they are kept.
        faults: First fault by row: a crash, or a number that is not finite in the actions or in
            the results. The values of such a row are zeros from then on.
    """

    def __init__(
        self, task: Task, seeds: Sequence[int], purpose: str, threads: int = 1, keep: int = 0
    ) -> None:
        """Makes the environments and starts episode 0 of each.

        Args:
            task: The task and its backend.
            seeds: Seeds of the M rows.
            purpose: Purpose of the episodes; different purposes get different episodes.
            threads: Threads for a backend that uses threads; see `threads_for`.
            keep: Number of newest steps whose states are kept; EnvPool has no states.
        """
        self._backend: Backend = (
            EnvPoolBackend(task, seeds, purpose, threads)
            if task.backend == "envpool"
            else GymnasiumBackend(task, seeds, purpose)
        )
        self._all = np.arange(len(seeds))
        self._episodes = np.full(len(seeds), -1)
        self.has_success = has_success(task.id)
        self.faults: dict[int, str] = {}
        # Steps and actions of each row's current episode, to repeat them when a run is resumed.
        self._steps = np.zeros(len(seeds), np.int64)
        self._actions = np.zeros(
            (len(seeds), task.episode_steps, self._backend.action_size), np.float32
        )
        self.reset()
        self.states: RecentStates | None = None
        if keep and isinstance(self._backend, GymnasiumBackend):
            self.states = RecentStates(keep, self._backend.envs)

    @property
    def episodes(self) -> list[int]:
        """Number of each row's current episode."""
        return [int(number) for number in self._episodes]

    def reset(self, episode: int | None = None) -> None:
        """Starts an episode in every row: the one with this number, by default the row's next."""
        self._episodes = self._episodes + 1 if episode is None else 0 * self._episodes + episode
        self.observation = self._backend.start(self._all, self._episodes)
        self._steps[:] = 0
        self._find_faults(self.observation)

    def step(self, actions: Array) -> StepResult:
        """Steps every row with actions [M, A]."""
        result = self._step(self._all, actions)
        if self.states is not None:
            self.states.add(self._episodes)
        self.observation = result.observation
        ended = np.flatnonzero(result.terminated | result.truncated)
        if len(ended):
            self._steps[ended] = 0
            self._episodes[ended] += 1
            self.observation = result.observation.copy()
            self.observation[ended] = self._backend.start(ended, self._episodes[ended])
        self._find_faults(self.observation, result.observation, result.reward)
        return result

    def step_running(self, running: NDArray[np.bool_], actions: Array) -> StepResult:
        """Steps the running rows, [M], with actions [M, A]; an ended episode has no successor.

        The other rows keep their observations, and all else of theirs is 0.
        """
        rows = np.flatnonzero(running)
        stepped = self._step(rows, actions[rows])
        result = StepResult(
            self.observation.copy(),
            np.zeros(len(running)),
            *(np.zeros(len(running), np.bool_) for _ in range(3)),
        )
        for name, values in vars(stepped).items():
            getattr(result, name)[rows] = values
        self.observation = result.observation
        self._find_faults(self.observation, result.observation, result.reward)
        return result

    def _step(self, rows: Array, actions: Array) -> StepResult:
        """Steps some rows, [R], with actions [R, A]."""
        actions = np.asarray(actions, np.float32)  # the precision in which they are saved
        finite = np.isfinite(actions).all(1, keepdims=True)
        if not finite.all():
            for row in rows[np.flatnonzero(~finite)]:
                self.faults.setdefault(int(row), "not finite: the action")
            actions = np.where(finite, actions, 0)
        self._actions[rows, self._steps[rows]] = actions
        self._steps[rows] += 1
        return StepResult(*self._backend.step(rows, actions))

    def _find_faults(self, *numbers: Array) -> None:
        """Records rows with numbers that are not finite, and sets values of faulty rows to 0."""
        for values, name in zip(numbers, ("observation", "observation", "reward"), strict=False):
            finite = np.isfinite(values.reshape(len(values), -1)).all(1)
            if not finite.all():
                for row in np.flatnonzero(~finite):
                    reason = self._backend.crashes.get(int(row)) or f"not finite: the {name}"
                    self.faults.setdefault(int(row), reason)
        if self.faults:
            for values in numbers:
                values[list(self.faults)] = 0

    def state(self) -> Tree:
        """State for a checkpoint, see `core.state`: each row's episode and actions in it."""
        kept = {} if self.states is None else {"states": self.states.state()}
        return {
            "episodes": torch.from_numpy(self._episodes),
            "steps": torch.from_numpy(self._steps),
            "actions": torch.from_numpy(self._actions),
            **kept,
        }

    def load(self, saved: Tree) -> None:
        """Restores the state of every row by repeating the actions of its episode."""
        self._episodes, self._steps, self._actions = (
            saved[name].numpy().copy() for name in ("episodes", "steps", "actions")
        )
        self.observation = self._backend.start(self._all, self._episodes)
        for step in range(self._steps.max()):
            rows = np.flatnonzero(self._steps > step)
            self.observation[rows], *_ = self._backend.step(rows, self._actions[rows, step])
        if self.states is not None:
            self.states.load(saved["states"])

    def close(self) -> None:
        """Releases the simulators."""
        self._backend.close()


def threads_for(device: torch.device) -> int:
    """Threads for environments: 1 on the CPU, which has a worker per core; on a GPU all cores."""
    return 1 if device.type == "cpu" else available_cores()
