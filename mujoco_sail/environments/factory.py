"""Environments of three libraries under one contract, seeded episode by episode.

Observations are flat float32 vectors, actions lie in [-1, 1]^A, and the only time limit is the
recipe's. How an episode starts depends on a seed, a purpose and the episode's number alone.
"""

import difflib
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib import import_module
from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Dict, Space, flatdim, flatten
from gymnasium.wrappers import RescaleAction, TimeLimit, TransformObservation
from numpy.typing import NDArray

from mujoco_sail.core.streams import seed_for
from mujoco_sail.recipes.load import load_task
from mujoco_sail.recipes.settings import RecipeError
from mujoco_sail.recipes.task import Task

Array = NDArray[Any]
Env = gymnasium.Env[Array, Array]
Wrapper = gymnasium.Wrapper[Array, Array, Array, Array]
Info = dict[str, Any]

META_WORLD = "Meta-World/"


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
    env = TransformObservation(env, _flattener(nested), flat)
    if (actions.low != -1).any() or (actions.high != 1).any():
        env = RescaleAction(env, np.int64(-1), np.int64(1))
    if task.horizon == "fixed":
        env = FixedHorizon(env)
    return Episodes(TimeLimit(env, task.episode_steps), seed, purpose)


def spaces(task: Task) -> tuple[int, int]:
    """Sizes of a task's observations and actions."""
    env = make_env(task, 0, "spaces")
    env.close()
    return flatdim(env.observation_space), flatdim(env.action_space)


class GymnasiumRows:
    """Environments of one task side by side, a row per seed; see `Rows` in `worlds`.

    Args:
        task: The task.
        seeds: Seeds of the M rows.
        purpose: What the episodes are for.
    """

    def __init__(self, task: Task, seeds: Sequence[int], purpose: str) -> None:
        self.envs = [Guarded(make_env(task, seed, purpose)) for seed in seeds]
        self.action_size = flatdim(self.envs[0].action_space)

    @property
    def crashes(self) -> Mapping[int, str]:
        """See `Rows.crashes`."""
        return {row: env.crash for row, env in enumerate(self.envs) if env.crash is not None}

    def start(self, rows: Array, episodes: Array) -> Array:
        """See `Rows.start`."""
        for row, episode in zip(rows, episodes, strict=True):
            self.envs[row].set_wrapper_attr("episode", int(episode))
        return np.stack([self.envs[row].reset()[0] for row in rows])

    def step(self, rows: Array, actions: Array) -> tuple[Array, Array, Array, Array, Array]:
        """See `Rows.step`."""
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
        """See `Rows.close`."""
        for env in self.envs:
            env.close()


def _registered(task: Task, render_mode: str | None) -> Env:
    """The environment as its library registers it, without any time limit."""
    make: Any = partial(gymnasium.make, max_episode_steps=-1, disable_env_checker=True)
    drawn: dict[str, Any] = {} if render_mode is None else {"render_mode": render_mode}
    if task.id.startswith(META_WORLD):
        name = task.id.removeprefix(META_WORLD)
        if name not in _library("metaworld").ALL_V3_ENVIRONMENTS:
            raise gymnasium.error.NameNotFound
        goal = "goal_observable" if task.goal_visible else "goal_hidden"
        env: Env = MetaWorld(make(META_WORLD + goal, env_name=name, seed=0))
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


def _flattener(space: Space[Any]) -> Callable[[Any], Array]:
    """What turns an observation of a space into a float32 vector."""
    if isinstance(space, Dict) and all(isinstance(part, Box) for part in space.values()):
        names = list(space)  # sorted
        return lambda x: np.concatenate([x[name] for name in names], axis=None, dtype=np.float32)
    return lambda x: np.asarray(flatten(space, x), np.float32)


def _suite_ids() -> list[str]:
    suite = _library("shimmy.utils.envs_configs").DM_CONTROL_SUITE_ENVS
    return [f"dm_control/{domain}-{task}-v0" for domain, task in suite]


def _known_ids() -> list[str]:
    names = _library("metaworld").ALL_V3_ENVIRONMENTS
    others = [id for id in gymnasium.registry if "/" not in id]
    return [META_WORLD + name for name in names] + _suite_ids() + others


def _library(name: str) -> Any:
    """Imports a library, a matter of a second, only once one of its environments is asked for."""
    with warnings.catch_warnings():
        # dm_control looks for a display; nothing is drawn here.
        warnings.filterwarnings("ignore", message=r".*X11")
        return import_module(name)
