"""EnvPool backend: the same tasks, simulated in C++ with another version of MuJoCo.

For equal states and actions, EnvPool 1.2.5 (with MuJoCo 3.6.0) gives the same observations,
rewards, ends and successes as the Gymnasium backend (MuJoCo 3.3.0), up to rounding. Its initial
states have the same distribution. Tests verify both. For geoms with contact margins (door-open,
button-press, Pusher) this holds until the first contact, because MuJoCo 3.6 treats margins
differently from 3.3; with the same version of MuJoCo it holds in whole episodes. In the first
observation of drawer-open and window-open, the hand is where it is one step of the simulation
later, up to 1e-4 m away.

Not supported are Ant, Hopper and Humanoid of Gymnasium, whose margins matter in nearly every step;
InvertedPendulum, which in EnvPool always terminates when the pole falls; hammer, whose nail moves
by 0.24 m at every reset; sweep-into, whose rewards are others; and tasks that have not been
compared.

A diverged simulation is a fault of its row only if it gives numbers that are not finite (as the
reward for a distance travelled does when positions are bad). Otherwise MuJoCo resets the
simulation within the episode, which cannot be detected, because EnvPool does not expose MuJoCo's
counters of warnings. MuJoCo then also writes MUJOCO_LOG.TXT into the working folder, which cannot
be prevented. The Gymnasium backend detects every divergence and writes no such file.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mujoco_sail.core.streams import seed_for
from mujoco_sail.environments.wrappers import Array
from mujoco_sail.recipes.ids import ENVPOOL_IDS, META_WORLD, has_success
from mujoco_sail.recipes.task import Task
from mujoco_sail.system import packages
from mujoco_sail.system.errors import UserError

# Parts of EnvPool's observations that dm_control's task does not have: they belong to other tasks
# of the same body.
OF_OTHER_QUADRUPEDS = frozenset({"ball_state", "origin", "rangefinder", "target_position"})
UNUSED = {
    "HumanoidStand-v1": frozenset({"position"}),
    "QuadrupedRun-v1": OF_OTHER_QUADRUPEDS,
    "QuadrupedWalk-v1": OF_OTHER_QUADRUPEDS,
}


def import_envpool(task: Task) -> Any:
    """Imports EnvPool for a task.

    Raises:
        UserError: EnvPool does not have the task, or is not installed.
    """
    where = f"{task.name}: key 'backend' is 'envpool'"
    if task.id not in ENVPOOL_IDS:
        raise UserError(
            f"{where}; EnvPool has no {task.id} that is known to be the same task, use gymnasium;",
            f"it has {', '.join(ENVPOOL_IDS)}",
        )
    return packages.load("envpool", f"{where}, which", "use gymnasium")


class EnvPoolBackend:
    """Backend of EnvPool environments, one per seed.

    EnvPool takes one seed per row and draws the initial states of its episodes from it, one after
    the other, and nothing else. So an episode depends only on seed, purpose and number, but to
    reach an episode, all episodes before it must be started.

    Args:
        task: The task.
        seeds: Seeds of the M rows.
        purpose: Purpose of the episodes, such as training or evaluation.
        threads: Threads that step the rows; results do not depend on it.

    Raises:
        UserError: EnvPool does not have the task, or is not installed.
    """

    # Always empty: crashes inside EnvPool cannot be detected, see above.
    crashes: Mapping[int, str] = {}

    def __init__(self, task: Task, seeds: Sequence[int], purpose: str, threads: int) -> None:
        self._library, self._id = import_envpool(task), ENVPOOL_IDS[task.id]
        self._unused = UNUSED.get(self._id, frozenset())
        self._limit = task.episode_steps
        self._has_success = has_success(task.id)
        self._options: dict[str, Any] = {
            "num_envs": len(seeds),
            "num_threads": threads,
            "seed": [seed_for(seed, purpose) % 2**31 for seed in seeds],
            # One more than the recipe's: EnvPool would report a fall in the last step as a time
            # limit.
            "max_episode_steps": task.episode_steps + 1,
        }
        if task.id.startswith(META_WORLD):
            self._options["partially_observable"] = not task.goal_visible
        if task.id == "Walker2d-v5":
            self._options["terminate_when_unhealthy"] = task.horizon == "variable"
        self._open()
        actions = self._pool.action_space
        self._centre = (actions.high + actions.low) / 2
        self._half = (actions.high - actions.low) / 2
        self.observation_size, self.action_size = self._first.shape[1], len(actions.low)

    def start(self, rows: Array, episodes: Array) -> Array:
        """Starts an episode in each of some rows, see `Backend.start`."""
        # EnvPool cannot go back to an earlier episode: new simulators are made.
        if (episodes < self._episodes[rows] + (self._steps[rows] > 0)).any():
            self._open()
        while len(behind := rows[self._episodes[rows] < episodes]):
            self._first[behind] = self._flat(self._pool.reset(behind)[0])
            self._episodes[behind] += 1
            self._steps[behind] = 0
        return self._first[rows].astype(np.float32)

    def step(self, rows: Array, actions: Array) -> tuple[Array, Array, Array, Array, Array]:
        """Steps some rows, see `Backend.step`."""
        scaled = self._centre + actions * self._half
        observation, reward, terminated, _, info = self._pool.step(scaled, rows)
        self._steps[rows] += 1
        return (
            self._flat(observation).astype(np.float32),
            reward.astype(np.float64),
            terminated,
            self._steps[rows] == self._limit,
            info["success"] > 0 if self._has_success else np.zeros(len(rows), np.bool_),
        )

    def close(self) -> None:
        """Releases the simulators."""
        self._pool.close()

    def _open(self) -> None:
        """Makes the simulators and starts episode 0 of each."""
        self._pool = self._library.make_gymnasium(self._id, **self._options)
        self._first = self._flat(self._pool.reset()[0])
        self._episodes = np.zeros(len(self._first), np.int64)
        self._steps = np.zeros(len(self._first), np.int64)

    def _flat(self, observation: Any) -> Array:
        """Flattens observations to [R, O], nested ones in Gymnasium's order, sorted by name."""
        parts = [observation]
        if isinstance(observation, dict):
            parts = [observation[name] for name in sorted(observation.keys() - self._unused)]
        return np.concatenate([np.reshape(part, (len(part), -1)) for part in parts], axis=1)
