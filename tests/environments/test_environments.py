import os
import random
import subprocess
import sys
import warnings

import numpy as np
import pytest
import torch

from mujoco_sail.environments.factory import make_env, spaces
from mujoco_sail.environments.vector import StepResult, VectorEnv
from mujoco_sail.recipes.load import load_task, recipe_folder, recipe_names
from mujoco_sail.recipes.settings import RecipeError
from mujoco_sail.results.versions import versions

pytestmark = pytest.mark.filterwarnings("error")

TASKS = recipe_names("envs")
GYMNASIUM = [name for name in TASKS if "/" not in load_task(name, "quick", {}).id]
DM_CONTROL = ["cheetah_run", "walker_stand", "walker_walk"]
FALLING = ["ant", "hopper", "humanoid", "inverted_pendulum", "walker2d"]
BOUNDED = [*DM_CONTROL, "door_open"]
SHORT = 50


def task_of(name, **overrides):
    return load_task(name, "quick", overrides)


def random_actions(task, *shape, seed=0):
    size = spaces(task)[1]
    return np.random.default_rng(seed).uniform(-1, 1, (*shape, size)).astype(np.float32)


def play(env, actions):
    """Observations and rewards of the episode that is due."""
    observations, rewards = [env.reset()[0]], []
    for action in actions:
        observation, reward, *_ = env.step(action)
        observations.append(observation)
        rewards.append(reward)
    return np.stack(observations), np.array(rewards)


def assert_same(one: StepResult, other: StepResult):
    for field in vars(one):
        np.testing.assert_array_equal(getattr(one, field), getattr(other, field), field)


# --- the contract ---


@pytest.mark.parametrize("name", TASKS)
def test_observations_are_flat_float32_and_actions_fill_the_unit_box(name):
    task = task_of(name)
    env = make_env(task, 0, "train")
    observation, _ = env.reset()
    following, *_ = env.step(env.action_space.high)
    size, actions = spaces(task)
    for array in (observation, following):
        assert (array.dtype, array.shape) == (np.float32, (size,))
        assert env.observation_space.contains(array)
    np.testing.assert_array_equal(env.action_space.low, -np.ones(actions))
    np.testing.assert_array_equal(env.action_space.high, np.ones(actions))


@pytest.mark.parametrize("name", GYMNASIUM)
def test_the_unit_box_is_stretched_to_the_bounds_of_the_simulator(name):
    env = make_env(task_of(name), 0, "train")
    low, high = env.unwrapped.model.actuator_ctrlrange.T
    env.reset()
    for unit in (-1.0, 0.0, 0.5, 1.0):
        env.step(np.full(len(low), unit, np.float32))
        expected = low + (unit + 1) / 2 * (high - low)
        np.testing.assert_allclose(env.unwrapped.data.ctrl, expected, atol=1e-6)


@pytest.mark.parametrize("name", TASKS)
def test_a_fixed_horizon_is_truncated_at_its_limit_and_never_terminates(name):
    task = task_of(name)
    envs = VectorEnv(task, [0], "train")
    low, high = task.reward_range if name in BOUNDED else (-np.inf, np.inf)
    for step, action in enumerate(random_actions(task, task.episode_steps + 2, 1), start=1):
        result = envs.step(action)
        assert not result.terminated[0]
        assert result.truncated[0] == (step == task.episode_steps)
        assert np.isfinite(result.reward[0])
        assert low <= result.reward[0] <= high
    assert envs.episodes == [1]


def test_the_recipes_have_the_limits_of_their_benchmarks():
    limits = {name: task_of(name).episode_steps for name in TASKS}
    others = {"door_open": 500, "reacher": 50, "pusher": 100}
    assert limits == {name: others.get(name, 1000) for name in TASKS}


@pytest.mark.parametrize("name", TASKS)
def test_an_environment_recipe_is_a_script(name):
    path = recipe_folder("envs") / f"{name}.toml"
    assert os.access(path, os.X_OK)
    assert path.read_text().startswith("#!/usr/bin/env -S mujoco-sail run --env\n")


# --- ends of episodes ---


@pytest.mark.parametrize("name", TASKS)
def test_no_transition_crosses_a_reset(name):
    task = task_of(name, episode_steps=SHORT)
    envs = VectorEnv(task, [4, 5], "train")
    actions = random_actions(task, SHORT, 2)
    for action in actions:
        result = envs.step(action)
    assert result.truncated.all()
    for row, seed in enumerate([4, 5]):
        env = make_env(task, seed, "train")
        observations, rewards = play(env, actions[:, row])
        np.testing.assert_array_equal(result.observation[row], observations[-1])
        assert result.reward[row] == rewards[-1]
        np.testing.assert_array_equal(envs.observation[row], env.reset()[0])


@pytest.mark.parametrize("name", ["hopper", "inverted_pendulum"])
def test_a_variable_horizon_ends_where_the_environment_does(name):
    task = task_of(name, horizon="variable")
    envs = VectorEnv(task, range(3), "train")
    envs = [make_env(task, seed, "train") for seed in range(3)]
    starts = np.stack([env.reset()[0] for env in envs])
    np.testing.assert_array_equal(envs.observation, starts)
    lengths = np.zeros(3, int)
    seen = set()
    for action in random_actions(task, 200, 3):
        result = envs.step(action)
        lengths += 1
        for row, env in enumerate(envs):
            observation, reward, terminated, truncated, _ = env.step(action[row])
            np.testing.assert_array_equal(result.observation[row], observation)
            assert result.reward[row] == reward
            assert result.terminated[row] == terminated
            assert not result.truncated[row]
            assert not truncated
            if terminated:
                seen.add(int(lengths[row]))
                lengths[row] = 0
                observation, _ = env.reset()
            np.testing.assert_array_equal(envs.observation[row], observation)
    assert len(seen) > 1
    assert max(seen) < task.episode_steps


@pytest.mark.parametrize("name", ["hopper", "inverted_pendulum"])
def test_a_time_limit_is_no_termination(name):
    task = task_of(name, horizon="variable", episode_steps=2, segment_steps=2)
    envs = VectorEnv(task, [0], "train")
    outcomes = [envs.step(np.zeros((1, spaces(task)[1]), np.float32)) for _ in range(4)]
    assert [bool(o.truncated[0]) for o in outcomes] == [False, True, False, True]
    assert not any(o.terminated[0] for o in outcomes)


@pytest.mark.parametrize("name", FALLING)
def test_a_fixed_horizon_goes_on_after_a_fall_and_pays_for_health_only(name):
    env = make_env(task_of(name), 0, "train")
    states, healthy, paid = [], [], []
    env.reset()
    for action in random_actions(task_of(name), 200, seed=1):
        observation, _, terminated, _, info = env.step(action)
        assert not terminated
        states.append(env.unwrapped.data.qpos.copy())
        # InvertedPendulum's only rule: the pole leans by at most 0.2 rad.
        upright = abs(env.unwrapped.data.qpos[1]) <= 0.2
        healthy.append(getattr(env.unwrapped, "is_healthy", upright))
        paid.append(info["reward_survive"] > 0)
        assert np.isfinite(observation).all()
    assert healthy == paid
    assert set(healthy) == {False, True}
    fall = healthy.index(False)
    assert np.ptp(states[fall:], axis=0).max() > 0.1
    assert env.unwrapped.data.time == pytest.approx(200 * env.unwrapped.dt)


@pytest.mark.parametrize(("discount", "ends"), [(0.0, (True, False)), (1.0, (False, True))])
def test_dm_control_ends_as_its_discount_says(discount, ends):
    env = make_env(task_of("walker_walk", horizon="variable"), 0, "train")
    env.unwrapped.task.get_termination = lambda physics: discount
    env.reset()
    _, _, terminated, truncated, info = env.step(np.zeros(6, np.float32))
    assert (terminated, truncated) == ends
    assert info["timestep.discount"] == discount


def test_dm_control_does_not_start_over_within_a_fixed_horizon(monkeypatch):
    from dm_control.suite.walker import PlanarWalker

    monkeypatch.setattr(PlanarWalker, "get_termination", lambda self, physics: 0.0)
    env = make_env(task_of("walker_walk"), 0, "train")
    env.reset()
    for _ in range(5):
        assert not any(env.step(np.zeros(6, np.float32))[2:4])
    assert env.unwrapped.physics.time() == pytest.approx(5 * env.unwrapped.dt)


@pytest.mark.parametrize(
    ("name", "steps"), [("cheetah_run", 1010), ("door_open", 510), ("reacher", 60)]
)
def test_no_library_has_a_time_limit_of_its_own(name, steps):
    task = task_of(name, episode_steps=steps)
    envs = VectorEnv(task, [0], "train")
    idle = np.zeros((1, spaces(task)[1]), np.float32)
    ends = [bool(envs.step(idle).truncated[0]) for _ in range(steps)]
    assert ends.index(True) == steps - 1


# --- seeds ---


@pytest.mark.parametrize("name", TASKS)
def test_starts_differ_between_episodes_seeds_and_purposes(name):
    task = task_of(name)
    env = make_env(task, 0, "train")
    starts = [env.reset()[0] for _ in range(8)]
    starts.append(make_env(task, 1, "train").reset()[0])
    starts.append(make_env(task, 0, "evaluate").reset()[0])
    assert len(np.unique(starts, axis=0)) == 10


@pytest.mark.parametrize("name", TASKS)
def test_an_episode_is_a_function_of_seed_purpose_and_number(name):
    task = task_of(name)
    actions = random_actions(task, 20)
    env = make_env(task, 3, "train")
    played = [play(env, actions) for _ in range(3)]
    env.episode = 1
    other = make_env(task, 3, "train")
    other.episode = 1
    for again in (env, other):
        observations, rewards = play(again, actions)
        np.testing.assert_array_equal(observations, played[1][0])
        np.testing.assert_array_equal(rewards, played[1][1])
        assert again.episode == 2


@pytest.mark.parametrize("name", TASKS)
def test_a_row_does_not_depend_on_the_other_rows(name):
    task = task_of(name, episode_steps=SHORT)
    alone, together = VectorEnv(task, [3], "train"), VectorEnv(task, [1, 3, 7], "train")
    for action in random_actions(task, SHORT + 10, 3):
        one, all_rows = alone.step(action[1:2]), together.step(action)
        assert_same(one, StepResult(*(getattr(all_rows, field)[1:2] for field in vars(all_rows))))
        np.testing.assert_array_equal(alone.observation, together.observation[1:2])


@pytest.mark.parametrize(
    ("name", "horizon"), [*((name, "fixed") for name in TASKS), ("hopper", "variable")]
)
def test_a_killed_run_is_rebuilt_by_seeding_and_repeating(name, horizon):
    task = task_of(name, episode_steps=SHORT, horizon=horizon)
    actions = random_actions(task, SHORT + 40, 2)
    lived = VectorEnv(task, [1, 2], "train")
    for action in actions[: SHORT + 20]:
        lived.step(action)
    rebuilt = VectorEnv(task, [1, 2], "train")
    rebuilt.load(lived.state())
    assert rebuilt.episodes != [0, 0]
    assert rebuilt.episodes == lived.episodes
    np.testing.assert_array_equal(rebuilt.observation, lived.observation)
    for action in actions[SHORT + 20 :]:
        assert_same(rebuilt.step(action), lived.step(action))


@pytest.mark.parametrize("name", TASKS)
def test_global_generators_neither_matter_nor_move(name):
    task = task_of(name)
    actions = random_actions(task, 20)
    played = []
    for poison in (1, 2):
        np.random.seed(poison)
        random.seed(poison)
        torch.manual_seed(poison)
        before = np.random.get_state()[1].copy(), random.getstate()
        played.append(play(make_env(task, 0, "train"), actions)[0])
        np.testing.assert_array_equal(np.random.get_state()[1], before[0])
        assert random.getstate() == before[1]
        assert torch.initial_seed() == poison
    np.testing.assert_array_equal(*played)


def test_worlds_start_the_next_episode_or_the_one_asked_for():
    envs = VectorEnv(task_of("reacher"), [0, 1], "train")
    first = envs.observation
    assert envs.episodes == [0, 0]
    envs.reset()
    assert envs.episodes == [1, 1]
    assert (envs.observation != first).any(axis=1).all()
    envs.reset(0)
    assert envs.episodes == [0, 0]
    np.testing.assert_array_equal(envs.observation, first)


def test_arrays_that_were_handed_out_are_never_written_to():
    task = task_of("reacher", episode_steps=2, segment_steps=2)
    envs = VectorEnv(task, [0, 1], "train")
    handed_out = []
    for action in random_actions(task, 6, 2):
        handed_out.append(envs.observation)
        handed_out += vars(envs.step(action)).values()
    copies = [array.copy() for array in handed_out]
    envs.load(envs.state())
    envs.reset()
    envs.step(random_actions(task, 2, seed=1))
    for array, copy in zip(handed_out, copies, strict=True):
        np.testing.assert_array_equal(array, copy)


# --- Meta-World ---


def test_every_door_is_placed_anew_with_its_goal():
    env = make_env(task_of("door_open"), 0, "train")
    doors, goals = [], []
    for _ in range(8):
        env.reset()
        doors.append(env.unwrapped.model.body("door").pos.copy())
        goals.append(env.unwrapped._target_pos.copy())
    assert len(np.unique(doors, axis=0)) == len(np.unique(goals, axis=0)) == 8
    assert (np.ptp(goals, axis=0)[:2] > 0.03).all()


def test_the_goal_is_observed_only_where_the_recipe_says_so():
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
            warnings.filterwarnings("ignore", "Constant")  # it relies on clipping
            action = policy.get_action(envs.observation[0].astype(np.float64))
        successes.append(bool(envs.step(np.clip(action, -1, 1)[None]).success[0]))
    assert envs.has_success
    assert (successes[0], successes[-2], successes[-1]) == (False, True, True)
    assert envs.step(np.zeros((1, 4))).success.tolist() == [False]


def test_other_tasks_have_no_success():
    envs = VectorEnv(task_of("reacher"), [0, 1], "train")
    assert not envs.has_success
    assert envs.step(np.zeros((2, 2))).success.tolist() == [False, False]


# --- mistakes, imports, versions ---


@pytest.mark.parametrize(
    ("wrong", "hint"),
    [
        ("HalfCheeta-v5", "'HalfCheetah-v5'"),
        ("Hopper-v99", "'Hopper-v5'"),
        ("dm_control/walker-wlk-v0", "'dm_control/walker-walk-v0'"),
        ("Meta-World/dor-open-v3", "'Meta-World/door-open-v3'"),
        ("metaworld/door-open-v3", "'Meta-World/door-open-v3'"),
        ("no_such_module:Hopper-v5", "no_such_module"),
        ("dm_control/RodentRunGaps-v0", "no such environment"),
        ("CartPole-v1", "continuous actions"),
    ],
)
def test_a_wrong_id_is_answered_in_one_line(wrong, hint):
    with pytest.raises(RecipeError) as caught:
        make_env(task_of("hopper", id=wrong), 0, "train")
    message = str(caught.value)
    assert message.startswith(f"hopper: key 'id' is '{wrong}'; ")
    assert hint in message
    assert "\n" not in message


def test_libraries_are_imported_when_needed_and_quietly():
    script = """
import sys
from mujoco_sail.recipes.load import load_task
from mujoco_sail.environments.factory import make_env
make_env(load_task("hopper", "quick", {}), 0, "train")
assert not {"dm_control", "metaworld", "shimmy"} & set(sys.modules)
make_env(load_task("walker_walk", "quick", {}), 0, "train")
make_env(load_task("door_open", "quick", {}), 0, "train")
"""
    command = [sys.executable, "-c", script]
    root = recipe_folder("envs").parent
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_versions_name_everything_that_a_result_depends_on():
    found = versions()
    assert set(found) == {
        *("mujoco", "gymnasium", "dm_control", "metaworld", "shimmy"),
        *("stable_baselines3", "torch", "python", "mujoco_sail"),
    }
    assert found["torch"] == torch.__version__
    assert found["python"].startswith(f"{sys.version_info.major}.{sys.version_info.minor}")
