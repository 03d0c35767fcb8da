"""Common interface of all environments, and errors for wrong ids."""

from __future__ import annotations

import subprocess
import sys
import warnings

import numpy as np
import pytest
import stable_baselines3.common.env_checker
from gymnasium.utils.env_checker import check_env
from helpers.environments import KINDS, TASKS, play, random_actions, task_of

from mujoco_sail.environments.factory import make, make_env, space_sizes
from mujoco_sail.environments.vector import VectorEnv
from mujoco_sail.recipes.load import load_task, recipe_folder
from mujoco_sail.system.errors import UserError

pytestmark = pytest.mark.filterwarnings("error")

GYMNASIUM = [name for name in TASKS if "/" not in load_task(name, "quick", {}).id]


# --- the interface ---


@pytest.mark.parametrize("name", TASKS)
def test_observations_are_flat_float32_and_actions_fill_the_unit_box(name):
    task = task_of(name)
    env = make_env(task, 0, "train")
    observation, _ = env.reset()
    following, *_ = env.step(env.action_space.high)
    size, actions = space_sizes(task)
    for array in (observation, following):
        assert (array.dtype, array.shape) == (np.float32, (size,))
        assert env.observation_space.contains(array)
    assert env.action_space.dtype == np.float32
    np.testing.assert_array_equal(env.action_space.low, -np.ones(actions))
    np.testing.assert_array_equal(env.action_space.high, np.ones(actions))


@pytest.mark.parametrize(
    ("check", "name"),
    [
        *((check_env, name) for name in TASKS),
        *((stable_baselines3.common.env_checker.check_env, name) for name in KINDS),
    ],
)
def test_the_checkers_of_gymnasium_and_stable_baselines3_find_nothing(check, name):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about wrappers and bounds
        check(make(name))


@pytest.mark.parametrize("name", GYMNASIUM)
def test_actions_are_rescaled_to_the_bounds_of_the_simulator(name):
    env = make_env(task_of(name), 0, "train")
    low, high = env.unwrapped.model.actuator_ctrlrange.T
    env.reset()
    for unit in (-1.0, 0.0, 0.5, 1.0):
        env.step(np.full(len(low), unit, np.float32))
        expected = low + (unit + 1) / 2 * (high - low)
        np.testing.assert_allclose(env.unwrapped.data.ctrl, expected, atol=1e-6)


# --- Meta-World ---


def test_every_episode_has_a_new_door_position_and_goal():
    env = make_env(task_of("door_open"), 0, "train")
    doors, goals = [], []
    for _ in range(8):
        env.reset()
        doors.append(env.unwrapped.model.body("door").pos.copy())
        goals.append(env.unwrapped._target_pos.copy())
    assert len(np.unique(doors, axis=0)) == len(np.unique(goals, axis=0)) == 8
    assert (np.ptp(goals, axis=0)[:2] > 0.03).all()


def test_the_goal_is_observed_only_if_the_recipe_says_so():
    task = task_of("door_open")
    visible = make_env(task, 0, "train")
    hidden = make_env(task_of("door_open", goal_visible=False), 0, "train")
    for _ in range(2):
        seen, blind = (play(env, random_actions(task, 5))[0] for env in (visible, hidden))
        goal = visible.unwrapped._target_pos.astype(np.float32)
        np.testing.assert_array_equal(seen[:, -3:], np.tile(goal, (6, 1)))
        np.testing.assert_array_equal(blind[:, -3:], np.zeros((6, 3)))
        np.testing.assert_array_equal(seen[:, :-3], blind[:, :-3])


def test_success_is_reported_up_to_the_last_step():
    from metaworld.policies import SawyerDoorOpenV3Policy

    # The door passes the goal soon after: success is a matter of single steps.
    envs = VectorEnv(task_of("door_open", episode_steps=100), [0], "train")
    policy = SawyerDoorOpenV3Policy()
    successes = []
    for _ in range(100):
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Constant")  # the policy relies on clipping
            action = policy.get_action(envs.observation[0].astype(np.float64))
        successes.append(bool(envs.step(np.clip(action, -1, 1)[None]).success[0]))
    assert envs.has_success
    assert (successes[0], successes[-2], successes[-1]) == (False, True, True)
    assert envs.step(np.zeros((1, 4))).success.tolist() == [False]


def test_other_tasks_have_no_success():
    envs = VectorEnv(task_of("reacher"), [0, 1], "train")
    assert not envs.has_success
    assert envs.step(np.zeros((2, 2))).success.tolist() == [False, False]


# --- errors and imports ---


@pytest.mark.parametrize(
    ("wrong", "hint"),
    [
        ("HalfCheeta-v5", "'HalfCheetah-v5'"),
        ("Hopper-v99", "'Hopper-v5'"),
        ("dm_control/walker-wlk-v0", "'dm_control/walker-walk-v0'"),
        ("Meta-World/dor-open-v3", "'Meta-World/door-open-v3'"),
        ("metaworld/door-open-v3", "'Meta-World/door-open-v3'"),
        ("no_such_module:Hopper-v5", "no_such_module"),
        (":Hopper-v5", "cannot be made: ValueError: Empty module name"),
        (".x:Foo-v0", "cannot be made: TypeError: "),
        ("helpers.broken:Broken-v0", "cannot be made: KeyError: 'weight'"),
        ("dm_control/RodentRunGaps-v0", "no such environment"),
        ("CartPole-v1", "continuous actions"),
        ("dm_control/lqr-lqr_2_1-v0", "bounded continuous actions"),
    ],
)
def test_a_wrong_id_gives_a_one_line_error(wrong, hint):
    with pytest.raises(UserError) as caught:
        make_env(task_of("hopper", id=wrong), 0, "train")
    message = str(caught.value)
    assert message.startswith(f"hopper: key 'id' is '{wrong}'; ")
    assert hint in message
    assert "\n" not in message


@pytest.mark.parametrize("labmaze", ["there", "missing"])
def test_libraries_are_imported_when_needed_and_quietly(labmaze):
    script = f"""
import sys
if {labmaze!r} == "missing":
    sys.modules["labmaze"] = None
from mujoco_sail.recipes.load import load_task
from mujoco_sail.environments.factory import make_env
make_env(load_task("hopper", "quick", {{}}), 0, "train")
assert not {{"dm_control", "metaworld", "shimmy"}} & set(sys.modules)
make_env(load_task("walker_walk", "quick", {{}}), 0, "train")
make_env(load_task("door_open", "quick", {{}}), 0, "train")
"""
    command = [sys.executable, "-c", script]
    root = recipe_folder("envs").parent
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
