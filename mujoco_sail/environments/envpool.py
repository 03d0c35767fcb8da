"""EnvPool's C++ simulators as a backend: the same tasks on another build of MuJoCo.

From equal states and actions, EnvPool 1.2.5 (it carries MuJoCo 3.6.0) gives the observations,
rewards, ends and successes of the Gymnasium backend (MuJoCo 3.3.0) up to rounding, and starts of
the same distribution; tests say so. Where geoms have contact margins (door-open, Pusher) that holds
until something touches: MuJoCo 3.6 counts margins otherwise than 3.3, and with one MuJoCo for both
it holds to the end. Ant, Hopper and Humanoid, whose margins matter in nearly every step, are
refused, as are InvertedPendulum, whose fall EnvPool cannot ignore, and tasks that nobody compared.

A simulation that diverges is a fault of its row only where numbers that are not finite come out
of it (bad positions make the reward nan where it counts a distance travelled). Otherwise MuJoCo
starts over in mid-episode and that cannot be seen: EnvPool does not hand out MuJoCo's counters of
warnings. Nor can its MuJoCo be kept from writing MUJOCO_LOG.TXT into the working folder then. The
Gymnasium backend sees every divergence and writes nothing.
"""

from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any

import numpy as np

from mujoco_sail.core.streams import seed_for
from mujoco_sail.environments.factory import META_WORLD
from mujoco_sail.environments.wrappers import Array
from mujoco_sail.recipes.task import Task
from mujoco_sail.system.errors import UserError

# Gymnasium's id -> EnvPool's.
ENVPOOL_IDS = {
    "Meta-World/door-open-v3": "MetaWorld/DoorOpen-v3",
    "dm_control/cheetah-run-v0": "CheetahRun-v1",
    "dm_control/walker-stand-v0": "WalkerStand-v1",
    "dm_control/walker-walk-v0": "WalkerWalk-v1",
    "HalfCheetah-v5": "HalfCheetah-v5",
    "Pusher-v5": "Pusher-v5",
    "Reacher-v5": "Reacher-v5",
    "Swimmer-v5": "Swimmer-v5",
    "Walker2d-v5": "Walker2d-v5",
}


def import_envpool(task: Task) -> Any:
    """EnvPool, if it has the task and is installed.

    Raises:
        UserError: It has not, or is not.
    """
    where = f"{task.name}: key 'backend' is 'envpool'"
    if task.id not in ENVPOOL_IDS:
        raise UserError(
            f"{where}; EnvPool has no {task.id} that is known to be the same task, use gymnasium;",
            f"it has {', '.join(ENVPOOL_IDS)}",
        )
    try:
        return import_module("envpool")
    except (ImportError, OSError) as error:
        raise UserError(
            f"{where}, which needs the package envpool ({error});",
            "pip install 'mujoco-sail[fast]', or use gymnasium",
        ) from error


class EnvPoolBackend:
    """Environments of one task side by side, a row per seed; see `Backend`.

    EnvPool takes one seed a row and draws the starts of its episodes from it, one after the
    other; nothing else draws. So an episode depends on seed, purpose and number alone here too,
    but to get to one, all before it are started.

    Args:
        task: The task.
        seeds: Seeds of the M rows.
        purpose: What the episodes are for.
        threads: Threads that step the rows; no result depends on it.

    Raises:
        UserError: EnvPool does not have the task, or is not installed.
    """

    # Always empty: crashes inside EnvPool cannot be seen, see above.
    crashes: Mapping[int, str] = {}

    def __init__(self, task: Task, seeds: Sequence[int], purpose: str, threads: int) -> None:
        self._library, self._id = import_envpool(task), ENVPOOL_IDS[task.id]
        self._limit = task.episode_steps
        self._has_success = task.id.startswith(META_WORLD)
        self._options: dict[str, Any] = {
            "num_envs": len(seeds),
            "num_threads": threads,
            "seed": [seed_for(seed, purpose) % 2**31 for seed in seeds],
            # One more than ours, or it would call a fall in the last step a time limit.
            "max_episode_steps": task.episode_steps + 1,
        }
        if self._has_success:
            self._options["partially_observable"] = not task.goal_visible
        if task.id == "Walker2d-v5":
            self._options["terminate_when_unhealthy"] = task.horizon == "variable"
        self._open()
        actions = self._pool.action_space
        self._centre = (actions.high + actions.low) / 2
        self._half = (actions.high - actions.low) / 2
        self.action_size = len(actions.low)

    def start(self, rows: Array, episodes: Array) -> Array:
        """See `Backend.start`."""
        # EnvPool cannot go back: to start an episode again, the simulators are made anew.
        if (episodes < self._episodes[rows] + (self._steps[rows] > 0)).any():
            self._open()
        while len(behind := rows[self._episodes[rows] < episodes]):
            self._first[behind] = _flat(self._pool.reset(behind)[0])
            self._episodes[behind] += 1
            self._steps[behind] = 0
        return self._first[rows].astype(np.float32)

    def step(self, rows: Array, actions: Array) -> tuple[Array, Array, Array, Array, Array]:
        """See `Backend.step`."""
        scaled = self._centre + actions * self._half
        observation, reward, terminated, _, info = self._pool.step(scaled, rows)
        self._steps[rows] += 1
        return (
            _flat(observation).astype(np.float32),
            reward.astype(np.float64),
            terminated,
            self._steps[rows] == self._limit,
            info["success"] > 0 if self._has_success else np.zeros(len(rows), np.bool_),
        )

    def close(self) -> None:
        """See `Backend.close`."""
        self._pool.close()

    def _open(self) -> None:
        """Makes the simulators and starts episode 0 of each."""
        self._pool = self._library.make_gymnasium(self._id, **self._options)
        self._first = _flat(self._pool.reset()[0])
        self._episodes = np.zeros(len(self._first), np.int64)
        self._steps = np.zeros(len(self._first), np.int64)


def _flat(observation: Any) -> Array:
    """[R, O]; the parts of a nested observation sorted by name, as Gymnasium has them."""
    parts = [observation]
    if isinstance(observation, dict):
        parts = [observation[name] for name in sorted(observation)]
    return np.concatenate([np.reshape(part, (len(part), -1)) for part in parts], axis=1)
