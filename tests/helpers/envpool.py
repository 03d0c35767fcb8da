"""Tasks that EnvPool supports, and their states."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from scipy.spatial.transform import Rotation

from mujoco_sail.environments.envpool import ENVPOOL_IDS, EnvPoolBackend
from mujoco_sail.recipes.load import load_task, recipe_names
from mujoco_sail.recipes.task import Task

needs_envpool = pytest.mark.skipif(
    find_spec("envpool") is None, reason="needs the extra: pip install 'mujoco-sail[fast]'"
)
TASKS = [name for name in recipe_names("envs") if load_task(name, "quick", {}).id in ENVPOOL_IDS]
FALL = 150  # steps in which an idle quadruped touches the ground
EXACT = {"xatol": 1e-13, "maxiter": 200}  # options of minimize_scalar
META_WORLD = [name for name in TASKS if "Meta-World/" in load_task(name, "quick", {}).id]


def task_of(name: str, backend: str = "envpool", **changes: Any) -> Task:
    return load_task(name, "quick", {"backend": backend, **changes})


def raw_pool(backend: EnvPoolBackend) -> Any:
    """The same environments again, as EnvPool gives them."""
    return backend._library.make_gymnasium(backend._id, **backend._options)


def put_first(name: str, env: Any, backend: EnvPoolBackend, row: int) -> None:
    """Sets a Gymnasium environment to the state in which a row of EnvPool's starts episode 0."""
    env.reset()
    seen, simulator = backend._first[row], env.unwrapped
    if name in META_WORLD:
        _put_meta_world(env, seen)
    elif name == "humanoid_stand":
        _put_humanoid(simulator, backend, row)
    elif name.startswith("quadruped_"):
        _put_quadruped(simulator, backend, row)
    elif name == "cheetah_run":
        with simulator.physics.reset_context():
            simulator.physics.data.qpos[:] = [0.0, *seen[:8]]
            simulator.physics.data.qvel[:] = seen[8:]
    elif name.startswith("walker_"):
        _put_walker(simulator.physics, seen)
    else:
        _put_gymnasium(name, simulator, seen)


def _put_meta_world(env: Any, seen: np.ndarray) -> None:
    """Sets the random vector, the place of an object, from the place of the goal.

    In these tasks the goal moves with the object.
    """
    simulator = env.unwrapped
    first = simulator._random_reset_space.low
    simulator._freeze_rand_vec, simulator._last_rand_vec = True, first
    env.reset()
    simulator._last_rand_vec = first + seen[-3:] - simulator._get_pos_goal()
    env.reset()


def _put_humanoid(simulator: Any, backend: EnvPoolBackend, row: int) -> None:
    """Sets the observed angles and tilt, with the heading of the velocity after one step."""
    seen, pool, physics = backend._first[row], raw_pool(backend), simulator.physics

    def put(heading: float) -> None:
        turn = Rotation.from_euler("z", heading) * _upright(seen[37:40])
        with physics.reset_context():
            physics.data.qpos[3:7] = np.roll(turn.as_quat(), 1)  # w first
            physics.data.qpos[7:] = seen[16:37]

    put(heading=0.0)
    pool.reset()
    idle = np.zeros((len(backend._first), backend.action_size))
    theirs = pool.step(idle)[0]["com_velocity"][row]
    _step(simulator, idle[row])
    ours = physics.center_of_mass_velocity()
    put(np.arctan2(theirs[1], theirs[0]) - np.arctan2(ours[1], ours[0]))


def _put_quadruped(simulator: Any, backend: EnvPoolBackend, row: int) -> None:
    """Sets the tilt, with the heading at which the state after the first contact is the same.

    Friction depends on the heading, because it is that of a pyramid with four sides.
    """
    pool, physics = raw_pool(backend), simulator.physics
    origin = pool.reset()[0]["origin"][row]  # from the torso; dm_control's task does not have it
    height, idle = np.linalg.norm(origin), np.zeros((len(backend._first), backend.action_size))
    theirs = [pool.step(idle)[0]["egocentric_state"][row] for _ in range(FALL)]

    def put(heading: float) -> None:
        turn = Rotation.from_euler("z", heading) * _upright(-origin / height)
        with physics.reset_context():
            physics.data.qpos[:7] = [0, 0, height, *np.roll(turn.as_quat(), 1)]  # w first

    def differences(heading: float, steps: int) -> list[float]:
        put(heading)
        found = []
        for their in theirs[:steps]:
            _step(simulator, idle[row])
            found.append(abs(physics.egocentric_state() - their).max())
        return found

    contact = int(np.argmax(np.array(differences(0.0, len(theirs))) > 1e-6)) + 1

    def difference(heading: float) -> float:
        return differences(heading, contact)[-1]

    near = min(np.linspace(0, np.pi / 2, 46), key=difference)
    put(minimize_scalar(difference, bounds=(near - 0.05, near + 0.05), options=EXACT).x)


def _step(simulator: Any, action: np.ndarray) -> None:
    simulator.physics.set_control(action)
    simulator.physics.step(round(simulator.dt / simulator.physics.timestep()))


def _upright(vertical: np.ndarray) -> Rotation:
    """A rotation of a body that sees the vertical of the world in this direction."""
    return Rotation.align_vectors([[0.0, 0.0, 1.0]], [vertical])[0]


def _put_walker(physics: Any, seen: np.ndarray) -> None:
    height, axes, velocity = seen[0], seen[1:15].reshape(7, 2), seen[15:]
    absolute = np.arctan2(axes[:, 1], axes[:, 0])
    # Torso, then thigh, leg and foot of each side, each relative to its parent body.
    relative = absolute - absolute[[0, 0, 1, 2, 0, 4, 5]]
    with physics.reset_context():
        joints = physics.named.data.qpos
        joints["rootz"], joints["rooty"] = height - 1.3, absolute[0]
        for side, first in (("right", 1), ("left", 4)):
            for part, joint in enumerate(("hip", "knee", "ankle"), first):
                joints[f"{side}_{joint}"] = -((relative[part] + np.pi) % (2 * np.pi) - np.pi)
        physics.data.qvel[:] = velocity


def _put_gymnasium(name: str, simulator: Any, seen: np.ndarray) -> None:
    position, velocity = simulator.init_qpos.copy(), simulator.init_qvel.copy()
    if name == "reacher":
        position[:2] = np.arctan2(seen[2:4], seen[:2])
        position[2:], velocity[:2], velocity[2:] = seen[4:6], seen[6:8], 0
    elif name == "pusher":
        position[:7], velocity[:7] = seen[:7], seen[7:14]
        position[7:], velocity[7:] = 0, 0
        simulator.set_state(position, velocity)
        # The object slides along y, then x.
        position[7:9] = (seen - simulator._get_obs())[[18, 17]]
    else:
        hidden = {"swimmer": 2}.get(name, 1)  # position along the track
        position[:hidden] = 0
        position[hidden:] = seen[: len(position) - hidden]
        velocity[:] = seen[len(position) - hidden :]
    simulator.set_state(position, velocity)
