"""Make environments of Gymnasium, dm_control and Meta-World with one interface.

Observations are flat float32 vectors, actions are in [-1, 1]^A, and the only time limit is the
recipe's. The initial state of an episode depends only on a seed, a purpose and the episode's
number.
"""

import difflib
import io
import os
import warnings
from collections.abc import Callable
from contextlib import redirect_stdout, suppress
from functools import partial
from importlib import import_module
from types import SimpleNamespace
from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Dict, Space, flatdim, flatten
from gymnasium.wrappers import RescaleAction, TimeLimit, TransformObservation

from mujoco_sail.environments.envpool import EnvPoolBackend
from mujoco_sail.environments.wrappers import (
    Array,
    DivergenceGuard,
    Env,
    FixedHorizon,
    SeededEpisodes,
    SeededMetaWorld,
)
from mujoco_sail.recipes.ids import DM_CONTROL, ENVPOOL_IDS, META_WORLD
from mujoco_sail.recipes.load import load_task
from mujoco_sail.recipes.task import Task
from mujoco_sail.system import packages
from mujoco_sail.system.errors import UserError


def disable_rendering() -> None:
    """Disables rendering in this process and its children, because finding a display can fail.

    Must be called before MuJoCo is imported; nothing can be rendered afterwards.
    """
    os.environ["MUJOCO_GL"] = "disable"


def make(
    recipe: str, protocol: str = "quick", seed: int = 0, render_mode: str | None = None
) -> SeededEpisodes:
    """Makes the environment of a recipe, with the interface that agents see.

    Args:
        recipe: Name or path of the recipe.
        protocol: One of the recipe's protocols.
        seed: Seed of the episodes' initial states, unless `reset` is given a seed.
        render_mode: None, or "rgb_array" to enable `render`.

    Raises:
        UserError: There is no such recipe or environment.
    """
    return make_env(load_task(recipe, protocol, {}), seed, "use", render_mode)


def make_env(task: Task, seed: int, purpose: str, render_mode: str | None = None) -> SeededEpisodes:
    """Makes one environment of a task.

    Args:
        task: The task, with the environment's id, time limit, horizon and goal visibility.
        seed: Seed of the member.
        purpose: Purpose of the episodes; different purposes get different episodes.
        render_mode: None, or "rgb_array" to enable `render`.

    Raises:
        UserError: There is no such environment, its library is not installed, it cannot be made,
            or its actions are not continuous.
    """
    where = f"{task.name}: key 'id' is '{task.id}'"
    try:
        for library in ("mujoco", *task.packages):
            _library(library)
        env: Env = DivergenceGuard(_registered(task, render_mode))
    except gymnasium.error.UnregisteredEnv:
        nearest = difflib.get_close_matches(task.id, _known_ids(), n=1, cutoff=0)[0]
        raise UserError(f"{where}; no such environment, nearest '{nearest}'") from None
    except ModuleNotFoundError as error:
        raise UserError(_missing(task, where, error)) from error
    except (gymnasium.error.Error, ImportError) as error:
        raise UserError(f"{where}; it cannot be made: {error}") from error
    except UserError:
        raise
    except Exception as error:  # of any type, from an environment of the user
        failed = f"{where}; it cannot be made" if render_mode is None else not_drawn(task)
        said = str(error).partition(" was raised from the environment creator")[0]
        raise UserError(f"{failed}: {type(error).__name__}: {said}") from error
    nested, actions = env.observation_space, env.action_space
    # dm_control writes MuJoCo's largest number for a control without limits.
    largest = _library("mujoco").mjMAXVAL
    if not isinstance(actions, Box) or not max(-actions.low.min(), actions.high.max()) < largest:
        raise UserError(f"{where}; expected bounded continuous actions, got {actions}")
    flat = Box(-np.inf, np.inf, (flatdim(nested),))
    env = TransformObservation(env, _flattener(nested), flat)
    if (actions.low != -1).any() or (actions.high != 1).any():
        env = RescaleAction(env, np.int64(-1), np.int64(1))
    if task.horizon == "fixed":
        env = FixedHorizon(env)
    made = SeededEpisodes(TimeLimit(env, task.episode_steps), seed, purpose)
    made.action_space = Box(-1, 1, actions.shape)  # of float32, which all simulators take
    return made


def not_drawn(task: Task) -> str:
    """Begins the message about a task whose environment makes no images."""
    return f"{task.name}: cannot be drawn"


def space_sizes(task: Task) -> tuple[int, int]:
    """Sizes of a task's observations and actions.

    Raises:
        UserError: As `make_env`, or EnvPool does not have the task or is not installed.
    """
    if task.backend == "envpool":
        pool = EnvPoolBackend(task, [0], "spaces", threads=1)
        pool.close()
        return pool.observation_size, pool.action_size
    env = make_env(task, 0, "spaces")
    env.close()
    return flatdim(env.observation_space), flatdim(env.action_space)


def _registered(task: Task, render_mode: str | None) -> Env:
    """Makes the environment that its library registered, without a time limit."""
    make: Any = partial(gymnasium.make, max_episode_steps=-1, disable_env_checker=True)
    drawn: dict[str, Any] = {} if render_mode is None else {"render_mode": render_mode}
    if task.id.startswith(META_WORLD):
        name = task.id.removeprefix(META_WORLD)
        if name not in _library("metaworld").ALL_V3_ENVIRONMENTS:
            raise gymnasium.error.NameNotFound
        goal = "goal_observable" if task.goal_visible else "goal_hidden"
        env: Env = SeededMetaWorld(make(META_WORLD + goal, env_name=name, seed=0))
        env.unwrapped.render_mode = render_mode  # shimmy's registration has no such argument
        return env
    if task.id.startswith(DM_CONTROL):
        _library("dm_control")
        if task.id not in _suite_ids():
            raise gymnasium.error.NameNotFound
        _repair_quadruped()
        if drawn:
            drawn["render_kwargs"] = {"width": 480, "height": 480, "camera_id": 0}
        env = make(task.id, task_kwargs={"time_limit": np.inf}, **drawn)
        if task.horizon == "fixed":
            # After a termination, dm_control would reset itself.
            env.get_wrapper_attr("task").get_termination = lambda physics: None
        return env
    with warnings.catch_warnings():
        # The error that follows from it says more.
        warnings.filterwarnings("ignore", message=r".*not in the possible render_modes")
        return make(task.id, **task.arguments, **drawn)  # type: ignore[no-any-return]


def _repair_quadruped() -> None:
    """Gives dm_control's quadruped the function `numpy.in1d`, which NumPy 2.4 has no longer."""
    _library("dm_control.suite.quadruped").np = SimpleNamespace(**vars(np) | {"in1d": np.isin})


def _flattener(space: Space[Any]) -> Callable[[Any], Array]:
    """Function that flattens an observation of a space into a float32 vector."""
    if isinstance(space, Dict) and all(isinstance(part, Box) for part in space.values()):
        names = list(space)  # sorted
        return lambda x: np.concatenate([x[name] for name in names], axis=None, dtype=np.float32)
    return lambda x: np.asarray(flatten(space, x), np.float32)


def _suite_ids() -> list[str]:
    suite = _library("shimmy.utils.envs_configs").DM_CONTROL_SUITE_ENVS
    return [f"{DM_CONTROL}{domain}-{task}-v0" for domain, task in suite]


def _known_ids() -> list[str]:
    """Ids of the environments of all installed libraries."""
    known = [id for id in gymnasium.registry if "/" not in id]
    with suppress(ImportError):
        known += [META_WORLD + name for name in _library("metaworld").ALL_V3_ENVIRONMENTS]
    with suppress(ImportError):
        known += _suite_ids()
    return known


def _missing(task: Task, where: str, error: ModuleNotFoundError) -> str:
    """The message for a library that is not installed."""
    module = packages.missing(error)
    if module is None:
        return f"{where}; it cannot be made: {error}"
    instead = ""
    if task.id.startswith(DM_CONTROL) and task.id in ENVPOOL_IDS:
        instead = "pip install 'mujoco-sail[fast]' and --set env.backend=envpool"
    return packages.needs(module, f"{where}, which", error, instead)


def _library(name: str) -> Any:
    """Imports a library of environments when it is first needed, because it takes about a second.

    Raises:
        ModuleNotFoundError: The library is not installed.
        ImportError: It cannot be imported for another reason.
    """
    # shimmy prints a line if labmaze is missing, see pyproject.toml.
    with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
        # dm_control looks for a display even if nothing is rendered.
        warnings.filterwarnings("ignore", message=r".*X11")
        try:
            return import_module(name)
        except Exception as error:  # of any type, if the backend in MUJOCO_GL is missing
            if packages.missing(error) == name.partition(".")[0]:
                raise
            wanted = os.environ.get("MUJOCO_GL")
            setting = f" with MUJOCO_GL={wanted}" if wanted else ""
            raise ImportError(f"{name} does not load{setting}: {error}") from error
