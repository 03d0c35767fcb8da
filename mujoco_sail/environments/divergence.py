"""Error when a MuJoCo simulation diverges; also prevents that MuJoCo writes MUJOCO_LOG.TXT."""

import logging
from importlib import import_module
from typing import Any

import numpy as np

from mujoco_sail.environments.wrappers import Array, Env, Info, Wrapper

LOG = logging.getLogger("mujoco")


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
