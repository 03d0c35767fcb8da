"""Environments of three libraries under one contract, seeded episode by episode.

Observations are flat float32 vectors, actions lie in [-1, 1]^A, and the only time limit is the
recipe's. How an episode starts depends on a seed, a purpose and the episode's number alone, so a
killed run rebuilds its environments by seeding them again and repeating the actions.
"""

import difflib
import platform
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from importlib import import_module, metadata
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium.spaces import Box, flatdim, flatten
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from gymnasium.wrappers import RescaleAction, TimeLimit, TransformObservation
from numpy.typing import NDArray

from mujoco_sail import __version__
from mujoco_sail.core.state import Tree
from mujoco_sail.recipes import load_task
from mujoco_sail.settings import RecipeError
from mujoco_sail.streams import seed_for
from mujoco_sail.task import Task

Array = NDArray[Any]
Env = gymnasium.Env[Array, Array]
Wrapper = gymnasium.Wrapper[Array, Array, Array, Array]
Info = dict[str, Any]

_META_WORLD = "Meta-World/"


class Episodes(Wrapper):
    """Seeds every episode explicitly.

    Attributes:
        episode: Number of the episode that the next `reset` starts.
    """

    def __init__(self, env: Env, seed: int, purpose: str) -> None:
        """Wraps an environment whose `reset(seed)` determines an episode."""
        super().__init__(env)
        self.episode = 0
        self._seed_of = partial(seed_for, seed, purpose)

    def reset(self, *, seed: int | None = None, options: Info | None = None) -> tuple[Array, Info]:
        """Starts the episode that is due, from its own seed unless another is given."""
        if seed is None:
            # dm_control's generator takes 32 bits.
            seed = self._seed_of(self.episode) % 2**32
        self.episode += 1
        return super().reset(seed=seed, options=options)


class Guarded(Wrapper):
    """Turns a crash into numbers that are not finite, so that the other rows can go on.

    Attributes:
        crash: What happened, one line; the environment is left alone from then on.
    """

    crash: str | None = None

    def reset(self, *, seed: int | None = None, options: Info | None = None) -> tuple[Array, Info]:
        """Starts an episode."""
        if self.crash is None:
            try:
                return super().reset(seed=seed, options=options)
            except Exception as error:  # whatever a simulator raises
                self._note(error)
        return self._nothing(), {}

    def step(self, action: Array) -> tuple[Array, Any, bool, bool, Info]:
        """Steps."""
        if self.crash is None:
            try:
                return super().step(action)
            except Exception as error:
                self._note(error)
        return self._nothing(), np.nan, False, True, {}

    def _note(self, error: Exception) -> None:
        text = " ".join(str(error).split())
        self.crash = f"the environment crashed: {type(error).__name__}: {text}"

    def _nothing(self) -> Array:
        return np.full(self.observation_space.shape or (), np.nan, np.float32)


class FixedHorizon(Wrapper):
    """Goes on after a fall, so that no episode's length tells anything about its reward."""

    def step(self, action: Array) -> tuple[Array, Any, bool, bool, Info]:
        """Steps, and withholds that the environment would have ended here."""
        observation, reward, _, truncated, info = super().step(action)
        return observation, reward, False, truncated, info


class MetaWorld(Wrapper):
    """Draws start and goal of every episode from its seed, which Meta-World itself ignores."""

    def __init__(self, env: Env) -> None:
        """Thaws the random vector and lifts Meta-World's own time limit."""
        super().__init__(env)
        sawyer: Any = env.unwrapped
        sawyer.seeded_rand_vec, sawyer._freeze_rand_vec = True, False
        sawyer.max_path_length = np.inf  # it raises past it

    def reset(self, *, seed: int | None = None, options: Info | None = None) -> tuple[Array, Info]:
        """Starts an episode."""
        if seed is not None:
            self.get_wrapper_attr("seed")(seed)
        return super().reset(options=options)


def make(
    recipe: str, protocol: str = "quick", seed: int = 0, render_mode: str | None = None
) -> Episodes:
    """Makes the environment that a recipe names, as the agents see it.

    Args:
        recipe: Recipe's name or path.
        protocol: One of the recipe's protocols.
        seed: Decides how its episodes start, unless `reset` is given a seed.
        render_mode: None, or "rgb_array" where `render` is wanted.

    Raises:
        RecipeError: There is no such recipe or environment.
    """
    return make_env(load_task(recipe, protocol, {}), seed, "use", render_mode)


def make_env(task: Task, seed: int, purpose: str, render_mode: str | None = None) -> Episodes:
    """Makes one environment of a task.

    Args:
        task: Names the environment, its time limit, horizon and whether the goal is observed.
        seed: Seed of the member.
        purpose: What the episodes are for; different purposes see different episodes.
        render_mode: None, or "rgb_array" where it is drawn.

    Raises:
        RecipeError: There is no such environment, or its actions are not continuous.
    """
    where = f"{task.name}: key 'id' is '{task.id}'"
    try:
        env = _registered(task, render_mode)
    except gymnasium.error.UnregisteredEnv:
        nearest = difflib.get_close_matches(task.id, _known_ids(), n=1, cutoff=0)[0]
        raise RecipeError(f"{where}; no such environment, nearest '{nearest}'") from None
    except (gymnasium.error.Error, ImportError) as error:
        raise RecipeError(f"{where}; it cannot be made: {error}") from error
    nested, actions = env.observation_space, env.action_space
    if not isinstance(actions, Box) or not actions.is_bounded():
        raise RecipeError(f"{where}; expected bounded continuous actions, got {actions}")
    flat = Box(-np.inf, np.inf, (flatdim(nested),))
    env = TransformObservation(env, lambda x: np.asarray(flatten(nested, x), np.float32), flat)
    env = RescaleAction(env, np.int64(-1), np.int64(1))
    if task.horizon == "fixed":
        env = FixedHorizon(env)
    return Episodes(TimeLimit(env, task.episode_steps), seed, purpose)


def _guarded(task: Task, seed: int, purpose: str) -> Env:
    return Guarded(make_env(task, seed, purpose))


def spaces(task: Task) -> tuple[int, int]:
    """Sizes of a task's observations and actions."""
    env = make_env(task, 0, "spaces")
    env.close()
    return flatdim(env.observation_space), flatdim(env.action_space)


@dataclass(frozen=True, eq=False)
class Outcome:
    """What a step of every row led to.

    Attributes:
        observation: [M, O] the true successor, also where an episode ended.
        reward: [M] the task's reward, in double precision as the simulators give it.
        terminated: [M] whether the environment ended the episode.
        truncated: [M] whether the time limit ended the episode.
        success: [M] whether the task is solved now; False where a task has no such notion.
    """

    observation: NDArray[np.float32]
    reward: NDArray[np.float64]
    terminated: NDArray[np.bool_]
    truncated: NDArray[np.bool_]
    success: NDArray[np.bool_]


class Worlds:
    """Environments of one task side by side, a row per seed; no row depends on another.

    A row whose episode ends starts its next episode within the same step. Arrays that were handed
    out are never written to again.

    Attributes:
        observation: [M, O] float32, what to act on now.
        has_success: Whether the task says when it is solved.
        faults: Rows that crashed or gave or got a number that is not finite, and the first
            reason. Their numbers are zeros from then on.
    """

    def __init__(self, task: Task, seeds: Sequence[int], purpose: str) -> None:
        """Makes the environments and starts episode 0 of each."""
        makers = [partial(_guarded, task, seed, purpose) for seed in seeds]
        self._envs = SyncVectorEnv(makers, copy=False, autoreset_mode=AutoresetMode.SAME_STEP)
        self._rows: Any = self._envs.envs
        self.has_success = task.id.startswith(_META_WORLD)
        self.faults: dict[int, str] = {}
        # What each row has done since its episode began, to do it again in another process.
        self._steps = np.zeros(len(seeds), np.int64)
        size = self._envs.single_action_space.shape or ()
        self._actions = np.zeros((len(seeds), task.episode_steps, *size), np.float32)
        self.reset()

    @property
    def episodes(self) -> list[int]:
        """Number of the episode that each row is in."""
        return [row.env.episode - 1 for row in self._rows]

    def reset(self, episode: int | None = None) -> None:
        """Starts an episode in every row: the one of that number, or else the row's next."""
        if episode is not None:
            for row in self._rows:
                row.env.episode = episode
        self.observation = self._envs.reset()[0].copy()
        self._steps[:] = 0
        self._find_faults(self.observation)

    def step(self, actions: Array) -> Outcome:
        """Steps every row, actions [M, A]."""
        finite = np.isfinite(actions).all(1, keepdims=True)
        if not finite.all():
            for row in np.flatnonzero(~finite):
                self.faults.setdefault(int(row), "not finite: the action")
            actions = np.where(finite, actions, 0)
        self._actions[np.arange(len(actions)), self._steps] = actions
        self._steps += 1
        buffer, reward, terminated, truncated, info = self._envs.step(actions)
        # The next step overwrites the buffer.
        self.observation = successor = buffer.copy()
        ended = terminated | truncated
        if ended.any():
            self._steps[ended] = 0
            successor = buffer.copy()
            successor[ended] = np.stack(info["final_obs"][ended])
        final = info.get("final_info", {})
        success = np.where(ended, final.get("success", 0), info.get("success", 0)) > 0
        self._find_faults(self.observation, successor, reward)
        return Outcome(successor, reward, terminated, truncated, success)

    def _find_faults(self, *numbers: Array) -> None:
        """Notes the rows of numbers that are not finite, and zeroes those of all noted rows."""
        for values, name in zip(numbers, ("observation", "observation", "reward"), strict=False):
            finite = np.isfinite(values.reshape(len(values), -1)).all(1)
            if not finite.all():
                for row in np.flatnonzero(~finite):
                    reason = self._rows[row].crash or f"not finite: the {name}"
                    self.faults.setdefault(int(row), reason)
        if self.faults:
            for values in numbers:
                values[list(self.faults)] = 0

    def state(self) -> Tree:
        """See `core.state`: each row's episode, and what it has done in it."""
        return {
            "episodes": torch.tensor(self.episodes),
            "steps": torch.from_numpy(self._steps),
            "actions": torch.from_numpy(self._actions),
        }

    def load(self, saved: Tree) -> None:
        """Takes every row back to where it was, by doing again what it had done."""
        self._steps = saved["steps"].numpy().copy()
        self._actions = saved["actions"].numpy().copy()
        observations = []
        for row, episode, steps, actions in zip(
            self._rows, saved["episodes"].tolist(), self._steps, self._actions, strict=True
        ):
            row.env.episode = episode
            observation, _ = row.reset()
            for action in actions[:steps]:
                observation, *_ = row.step(action)
            observations.append(observation)
        self.observation = np.stack(observations)

    def close(self) -> None:
        """Releases the simulators."""
        self._envs.close()


def versions() -> dict[str, str]:
    """Versions that a result depends on."""
    simulators = "mujoco", "gymnasium", "dm_control", "metaworld", "shimmy"
    learners = "stable_baselines3", "torch"
    found = {name: metadata.version(name) for name in simulators + learners}
    return found | {"python": platform.python_version(), "mujoco_sail": __version__}


def _registered(task: Task, render_mode: str | None) -> Env:
    """The environment as its library registers it, without any time limit."""
    make: Any = partial(gymnasium.make, max_episode_steps=-1, disable_env_checker=True)
    drawn: dict[str, Any] = {} if render_mode is None else {"render_mode": render_mode}
    if task.id.startswith(_META_WORLD):
        name = task.id.removeprefix(_META_WORLD)
        if name not in _library("metaworld").ALL_V3_ENVIRONMENTS:
            raise gymnasium.error.NameNotFound
        goal = "goal_observable" if task.goal_visible else "goal_hidden"
        env: Env = MetaWorld(make(_META_WORLD + goal, env_name=name, seed=0))
        env.unwrapped.render_mode = render_mode  # its registration has no such argument
        return env
    if task.id.startswith("dm_control/"):
        if task.id not in _suite_ids():
            raise gymnasium.error.NameNotFound
        if drawn:
            drawn["render_kwargs"] = {"width": 480, "height": 480, "camera_id": 0}
        env = make(task.id, task_kwargs={"time_limit": np.inf}, **drawn)
        if task.horizon == "fixed":
            # dm_control would start over by itself after an end of its own.
            env.get_wrapper_attr("task").get_termination = lambda physics: None
        return env
    return make(task.id, **drawn)  # type: ignore[no-any-return]


def _suite_ids() -> list[str]:
    suite = _library("shimmy.utils.envs_configs").DM_CONTROL_SUITE_ENVS
    return [f"dm_control/{domain}-{task}-v0" for domain, task in suite]


def _known_ids() -> list[str]:
    names = _library("metaworld").ALL_V3_ENVIRONMENTS
    others = [id for id in gymnasium.registry if "/" not in id]
    return [_META_WORLD + name for name in names] + _suite_ids() + others


def _library(name: str) -> Any:
    """Imports a library, a matter of a second, only once one of its environments is asked for."""
    with warnings.catch_warnings():
        # dm_control looks for a display; nothing is drawn here.
        warnings.filterwarnings("ignore", message=r".*X11")
        return import_module(name)
