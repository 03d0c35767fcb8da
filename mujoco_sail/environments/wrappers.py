"""Gymnasium wrappers that give environments of three libraries one interface."""

from functools import partial
from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray

from mujoco_sail.core.streams import seed_for

Array = NDArray[Any]
Env = gymnasium.Env[Array, Array]
Wrapper = gymnasium.Wrapper[Array, Array, Array, Array]
Info = dict[str, Any]


class SeededEpisodes(Wrapper):
    """Wrapper that gives every episode its own seed.

    Attributes:
        episode: Number of the episode that the next `reset` starts.
    """

    def __init__(self, env: Env, seed: int, purpose: str) -> None:
        """Wraps an environment whose `reset(seed)` determines the episode."""
        super().__init__(env)
        self.episode = 0
        self._seed_of = partial(seed_for, seed, purpose)

    def reset(self, *, seed: int | None = None, options: Info | None = None) -> tuple[Array, Info]:
        """Starts the next episode, with its own seed unless another is given."""
        if seed is None:
            # dm_control's generator takes 32 bits.
            seed = self._seed_of(self.episode) % 2**32
        self.episode += 1
        return super().reset(seed=seed, options=options)


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
