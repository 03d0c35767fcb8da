"""Gymnasium wrappers that give environments of three libraries one interface."""

import logging
from importlib import import_module
from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray

from mujoco_sail.core.streams import seed_for

Array = NDArray[Any]
Env = gymnasium.Env[Array, Array]
Wrapper = gymnasium.Wrapper[Array, Array, Array, Array]
Info = dict[str, Any]

LOG = logging.getLogger("mujoco")


class SeededEpisodes(Wrapper):
    """Wrapper that gives every episode its own seed.

    Attributes:
        episode: Number of the episode that the next `reset` starts.
    """

    def __init__(self, env: Env, seed: int, purpose: str) -> None:
        """Wraps an environment whose `reset(seed)` determines the episode."""
        super().__init__(env)
        self.episode = 0
        self._seed, self._purpose = seed, purpose

    def reset(self, *, seed: int | None = None, options: Info | None = None) -> tuple[Array, Info]:
        """Starts the next episode.

        Args:
            seed: Starts episode 0 from this seed; later episodes depend on it, too.
            options: Passed to the library.
        """
        if seed is None:
            seed = seed_for(self._seed, self._purpose, self.episode)
        else:
            self._seed, self.episode = seed, 0
        self.episode += 1
        # dm_control's generator takes 32 bits; all libraries refuse what is below 0.
        return super().reset(seed=seed % 2**32 if seed >= 0 else seed, options=options)

    @property
    def spec(self) -> None:  # type: ignore[override]
        """None: an id alone does not tell Gymnasium how to make it again."""


class CrashGuard(Wrapper):
    """Wrapper that turns a crash into nan values, so that the other rows can continue.

    Attributes:
        crash: Description of the crash in one line; the environment is not used from then on.
    """

    crash: str | None = None

    def reset(self, *, seed: int | None = None, options: Info | None = None) -> tuple[Array, Info]:
        """Starts an episode."""
        if self.crash is None:
            try:
                return super().reset(seed=seed, options=options)
            except Exception as error:  # a simulator may raise any error
                self._note(error)
        return self._nothing(), {}

    def step(self, action: Array) -> tuple[Array, Any, bool, bool, Info]:
        """Steps the environment."""
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
    """Wrapper that ignores termination, so that the length of an episode reveals no reward."""

    def step(self, action: Array) -> tuple[Array, Any, bool, bool, Info]:
        """Steps the environment and returns False for `terminated`."""
        observation, reward, _, truncated, info = super().step(action)
        return observation, reward, False, truncated, info


class _NoGoals:
    """Meta-World's environment without `compute_reward`.

    By that name Stable-Baselines3 takes it for one with goals in its observations.
    """

    def __init__(self, env: Any) -> None:
        vars(self)["env"] = env

    def __getattr__(self, name: str) -> Any:
        if name == "compute_reward" or "env" not in vars(self):
            raise AttributeError(name)
        return getattr(self.env, name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self.env, name, value)

    def __delattr__(self, name: str) -> None:
        delattr(self.env, name)


class SeededMetaWorld(Wrapper):
    """Wrapper that draws start and goal from the seed of `reset`, which Meta-World ignores."""

    def __init__(self, env: Env) -> None:
        """Unfreezes the random vector and removes Meta-World's own time limit."""
        super().__init__(env)
        sawyer: Any = env.unwrapped
        sawyer.seeded_rand_vec, sawyer._freeze_rand_vec = True, False
        sawyer.max_path_length = np.inf  # Meta-World raises an error beyond it

    def reset(self, *, seed: int | None = None, options: Info | None = None) -> tuple[Array, Info]:
        """Starts an episode."""
        if seed is not None:
            self.get_wrapper_attr("seed")(seed)
        return super().reset(options=options)

    @property
    def unwrapped(self) -> Any:
        """Meta-World's environment."""
        return _NoGoals(self.env.unwrapped)


class DivergedError(RuntimeError):
    """Error when MuJoCo found an invalid number and reset the simulation or the controls."""


class DivergenceGuard(Wrapper):
    """Wrapper that raises an error when MuJoCo silently replaces an invalid state or control.

    If positions, velocities or accelerations are nan or too large, MuJoCo resets the simulation; if
    controls are, it replaces them by zeros. It counts both in `MjData.warning`, and only a reset
    clears the counters. dm_control raises an error itself. Environments that do not use MuJoCo are
    not changed.
    """

    def __init__(self, env: Env) -> None:
        """Wraps an environment made by its library."""
        super().__init__(env)
        self._bad_numbers: Array = np.zeros(0, np.int32)
        if _data(env) is not None:
            # Without a callback, MuJoCo writes MUJOCO_LOG.TXT into the working folder and prints
            # to stdout. dm_control sets its own callback when it is imported.
            import_module("mujoco").set_mju_user_warning(_log)

    def reset(self, *, seed: int | None = None, options: Info | None = None) -> tuple[Array, Info]:
        """Starts an episode.

        Raises:
            DivergedError: The simulation diverged.
        """
        result = super().reset(seed=seed, options=options)
        data = _data(self.env)
        if data is not None:
            # A view of the simulator's counters of bad numbers, which are the last warnings.
            first = int(import_module("mujoco").mjtWarning.mjWARN_BADQPOS)
            self._bad_numbers = data.warning.number[first:]
        self._check()
        return result

    def step(self, action: Array) -> tuple[Array, Any, bool, bool, Info]:
        """Steps the environment.

        Raises:
            DivergedError: The simulation diverged.
        """
        result = super().step(action)
        self._check()
        return result

    def _check(self) -> None:
        if np.count_nonzero(self._bad_numbers):
            kinds = import_module("mujoco").mjtWarning
            first = int(kinds.mjWARN_BADQPOS)
            met = [kinds(first + int(at)).name for at in np.flatnonzero(self._bad_numbers)]
            raise DivergedError(f"the simulation diverged: {', '.join(met)}")


def _data(env: Env) -> Any:
    """`MjData` of the simulation, or dm_control's equivalent; None if there is none."""
    base: Any = env.unwrapped
    data = getattr(getattr(base, "physics", base), "data", None)
    return data if hasattr(data, "warning") else None


def _log(text: str) -> None:
    LOG.info(text)  # users see it as the fault of the row
