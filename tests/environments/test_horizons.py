"""Ends of episodes: horizons, time limits and terminations."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.environments import KINDS, SHORT, TASKS, play, random_actions, task_of

from mujoco_sail.environments.factory import make_env, space_sizes
from mujoco_sail.environments.vector import VectorEnv
from mujoco_sail.recipes.ids import family

pytestmark = pytest.mark.filterwarnings("error")

FALLING = ["ant", "hopper", "humanoid", "inverted_pendulum", "walker2d"]
BOUNDED = [name for name in TASKS if family(task_of(name).id) != "Gymnasium"]


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


@pytest.mark.parametrize("name", KINDS)
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
    vector = VectorEnv(task, range(3), "train")
    envs = [make_env(task, seed, "train") for seed in range(3)]
    starts = np.stack([env.reset()[0] for env in envs])
    np.testing.assert_array_equal(vector.observation, starts)
    lengths = np.zeros(3, int)
    seen = set()
    for action in random_actions(task, 200, 3):
        result = vector.step(action)
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
            np.testing.assert_array_equal(vector.observation[row], observation)
    assert len(seen) > 1
    assert max(seen) < task.episode_steps


@pytest.mark.parametrize("name", ["hopper", "inverted_pendulum"])
def test_a_time_limit_is_not_a_termination(name):
    task = task_of(name, horizon="variable", episode_steps=2, segment_steps=2)
    envs = VectorEnv(task, [0], "train")
    outcomes = [envs.step(np.zeros((1, space_sizes(task)[1]), np.float32)) for _ in range(4)]
    assert [bool(o.truncated[0]) for o in outcomes] == [False, True, False, True]
    assert not any(o.terminated[0] for o in outcomes)


@pytest.mark.parametrize("name", FALLING)
def test_a_fixed_horizon_continues_after_a_fall_without_the_healthy_reward(name):
    env = make_env(task_of(name), 0, "train")
    states, healthy, paid = [], [], []
    env.reset()
    for action in random_actions(task_of(name), 200, seed=1):
        observation, _, terminated, _, info = env.step(action)
        assert not terminated
        states.append(env.unwrapped.data.qpos.copy())
        # InvertedPendulum's reward requires only that the pole leans by at most 0.2 rad.
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
def test_dm_control_terminates_when_its_discount_is_zero(discount, ends):
    env = make_env(task_of("walker_walk", horizon="variable"), 0, "train")
    env.unwrapped.task.get_termination = lambda physics: discount
    env.reset()
    _, _, terminated, truncated, info = env.step(np.zeros(6, np.float32))
    assert (terminated, truncated) == ends
    assert info["timestep.discount"] == discount


def test_dm_control_does_not_reset_within_a_fixed_horizon(monkeypatch):
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
    idle = np.zeros((1, space_sizes(task)[1]), np.float32)
    ends = [bool(envs.step(idle).truncated[0]) for _ in range(steps)]
    assert ends.index(True) == steps - 1
