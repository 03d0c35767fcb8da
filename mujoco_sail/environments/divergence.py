"""Raises when a MuJoCo simulation diverges, and keeps MuJoCo from writing MUJOCO_LOG.TXT."""

import logging
from importlib import import_module
from typing import Any

import numpy as np

from mujoco_sail.environments.wrappers import Array, Env, Info, Wrapper

LOG = logging.getLogger("mujoco")


class DivergedError(RuntimeError):
    """MuJoCo met a bad number and went on from a state that no action led to."""


class DivergenceGuard(Wrapper):
    """Raises where MuJoCo itself would go on in silence.

    A huge number or nan in positions, velocities or accelerations makes MuJoCo start over, one in
    the controls makes it take zeros; it counts both in `MjData.warning`, and only a reset clears
    the counters. dm_control raises by itself. An environment that is not MuJoCo's passes through.
    """

    def __init__(self, env: Env) -> None:
        """Wraps an environment as its library makes it."""
        super().__init__(env)
        self._bad_numbers: Array = np.zeros(0, np.int32)
        if _data(env) is not None:
            # Without a callback, MuJoCo writes MUJOCO_LOG.TXT into the working folder and prints
            # to stdout. dm_control sets one of its own when it is imported.
            import_module("mujoco").set_mju_user_warning(_log)

    def reset(self, *, seed: int | None = None, options: Info | None = None) -> tuple[Array, Info]:
        """Starts an episode.

        Raises:
            DivergedError: The simulation diverged.
        """
        result = super().reset(seed=seed, options=options)
        data = _data(self.env)
        if data is not None:
            # A view of the simulator's counters; they are the last ones.
            first = int(import_module("mujoco").mjtWarning.mjWARN_BADQPOS)
            self._bad_numbers = data.warning.number[first:]
        self._check()
        return result

    def step(self, action: Array) -> tuple[Array, Any, bool, bool, Info]:
        """Steps.

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
    """The simulation's `MjData`, or dm_control's of the same fields; None where there is none."""
    base: Any = env.unwrapped
    data = getattr(getattr(base, "physics", base), "data", None)
    return data if hasattr(data, "warning") else None


def _log(text: str) -> None:
    LOG.info(text)  # the fault of the row says it
