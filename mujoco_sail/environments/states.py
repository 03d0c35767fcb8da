"""States of the simulator: read, written, and those of the newest steps kept.

A state has what MuJoCo draws: positions, velocities, activations and mocap bodies, as float64. What
a reset changes in the model itself, such as the place of Meta-World's door, is not in it; the
number of the episode is, and starting that episode again restores the model.
"""

from collections.abc import Sequence
from importlib import import_module
from typing import Any

import numpy as np
import torch

from mujoco_sail.core.state import Tree
from mujoco_sail.environments.wrappers import Array, Env
from mujoco_sail.system.errors import UserError


def simulation(env: Env) -> tuple[Any, Any]:
    """`MjModel` and `MjData` of an environment of Gymnasium, dm_control or Meta-World.

    Raises:
        UserError: The environment does not use MuJoCo.
    """
    base: Any = env.unwrapped
    physics = getattr(base, "physics", None)
    try:
        if physics is None:
            return base.model, base.data
        return physics.model.ptr, physics.data.ptr
    except AttributeError as error:
        name = type(base).__name__
        raise UserError(f"{name} has no MuJoCo model, of which a person could be shown") from error


def read_state(env: Env) -> Array:
    """State of the simulator, [S]."""
    mujoco, (model, data) = import_module("mujoco"), simulation(env)
    state = np.empty(mujoco.mj_stateSize(model, _parts(mujoco)))
    mujoco.mj_getState(model, data, state, _parts(mujoco))
    return state


def write_state(env: Env, state: Array) -> None:
    """Sets the simulator to a state of the same episode, [S], and computes what is drawn."""
    mujoco, (model, data) = import_module("mujoco"), simulation(env)
    mujoco.mj_setState(model, data, state, _parts(mujoco))
    mujoco.mj_forward(model, data)
    base: Any = env.unwrapped
    for site in getattr(base, "_target_site_config", ()):  # Meta-World's marks of its goals
        base._set_pos_site(*site)


def _parts(mujoco: Any) -> int:
    kinds = mujoco.mjtState
    return int(kinds.mjSTATE_PHYSICS | kinds.mjSTATE_MOCAP_POS | kinds.mjSTATE_MOCAP_QUAT)


class RecentStates:
    """The states in which the newest steps of every row ended, each after its episode's number.

    Args:
        capacity: Number of steps that are kept.
        envs: Environments of the M rows.
    """

    def __init__(self, capacity: int, envs: Sequence[Env]) -> None:
        self.written, self._envs = 0, envs
        self._kept = np.zeros((len(envs), capacity, 1 + len(read_state(envs[0]))))

    def add(self, episodes: Array) -> None:
        """Stores the current states; `episodes` are the numbers of the rows' episodes, [M]."""
        place = self._kept[:, self.written % self._kept.shape[1]]
        place[:, 0] = episodes
        place[:, 1:] = [read_state(env) for env in self._envs]
        self.written += 1

    def take(self, row: int, steps: Array) -> Array:
        """States of a row after steps with these numbers, counted from 0, [..., 1 + S]."""
        return self._kept[row, steps % self._kept.shape[1]]  # type: ignore[no-any-return]

    def state(self) -> Tree:
        """State for a checkpoint, see `core.state`."""
        held = min(self.written, self._kept.shape[1])
        return {"kept": torch.from_numpy(self._kept[:, :held]), "written": self.written}

    def load(self, saved: Tree) -> None:
        """Restores the state that `state` returned."""
        self.written = saved["written"]
        kept = saved["kept"].numpy()
        self._kept[:, : kept.shape[1]] = kept
