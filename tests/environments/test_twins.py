"""Tasks of EnvPool equal those of Gymnasium."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
from helpers.environments import random_actions
from helpers.envpool import TASKS, needs_envpool, task_of
from scipy.stats import ks_2samp

from mujoco_sail.environments.factory import make_env
from mujoco_sail.environments.vector import VectorEnv
from mujoco_sail.recipes.task import Task

MARGINS = ["pusher"]  # equal until the first contact; door_open has its own test


def put(name: str, env: Any, seen: np.ndarray) -> None:
    """Sets a Gymnasium environment to the state of an EnvPool environment's first observation."""
    simulator = env.unwrapped
    if name == "door_open":
        goal = seen[-3:]
        simulator._freeze_rand_vec = True
        simulator._last_rand_vec = np.add(goal, [0.3, 0.45, 0.0])
        env.reset()
    elif name == "cheetah_run":
        with simulator.physics.reset_context():
            simulator.physics.data.qpos[:] = [0.0, *seen[:8]]
            simulator.physics.data.qvel[:] = seen[8:]
    elif name.startswith("walker_"):
        height, axes, velocity = seen[0], seen[1:15].reshape(7, 2), seen[15:]
        absolute = np.arctan2(axes[:, 1], axes[:, 0])
        # Torso, then thigh, leg and foot of each side, each relative to its parent body.
        relative = absolute - absolute[[0, 0, 1, 2, 0, 4, 5]]
        with simulator.physics.reset_context():
            joints = simulator.physics.named.data.qpos
            joints["rootz"], joints["rooty"] = height - 1.3, absolute[0]
            for side, first in (("right", 1), ("left", 4)):
                for part, joint in enumerate(("hip", "knee", "ankle"), first):
                    joints[f"{side}_{joint}"] = -((relative[part] + np.pi) % (2 * np.pi) - np.pi)
            simulator.physics.data.qvel[:] = velocity
    else:
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


def play_both(name: str, task: Task, seeds: list[int], actions: np.ndarray) -> tuple[Any, Any]:
    """Observations, rewards and successes of both backends, from equal states, [T, M, ...]."""
    pool = VectorEnv(task, seeds, "train")
    envs = [make_env(task, seed, "train") for seed in seeds]
    for env, seen in zip(envs, pool._backend._first, strict=True):
        env.reset()
        put(name, env, seen)
    ours, theirs = [], []
    for action in actions:
        result = pool.step(action)
        ours.append((result.observation, result.reward, result.success))
        steps = [env.step(action[row]) for row, env in enumerate(envs)]
        success = [step[-1].get("success", 0) > 0 for step in steps]
        theirs.append(([step[0] for step in steps], [step[1] for step in steps], success))
    return [np.array(part) for part in zip(*ours, strict=True)], [
        np.array(part) for part in zip(*theirs, strict=True)
    ]


@needs_envpool
@pytest.mark.parametrize("name", TASKS)
def test_equal_states_and_actions_give_equal_observations_and_rewards(name: str) -> None:
    task = task_of(name, episode_steps=100)
    actions = random_actions(task, 60, 4)
    ours, theirs = play_both(name, task, [0, 1, 2, 3], actions)
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)
    assert np.ptp(ours[0], axis=0).max() > 0.1


@needs_envpool
@pytest.mark.parametrize("name", MARGINS)
def test_margins_of_contacts_do_not_change_returns_of_a_random_policy(name: str) -> None:
    returns = []
    for backend in ("envpool", "gymnasium"):
        task = task_of(name, backend)
        pool = VectorEnv(task, range(100), "train")
        actions = random_actions(task, 60, 100)
        returns.append(sum(pool.step(action).reward for action in actions))
    assert ks_2samp(*returns).pvalue > 1e-3
    assert abs(np.mean(returns[0]) - np.mean(returns[1])) < 0.5 * np.std(returns[1])


@needs_envpool
def test_both_backends_open_a_door_with_success_in_the_same_steps() -> None:
    from metaworld.policies import SawyerDoorOpenV3Policy

    seeds = [0, 1, 2, 3]
    envs = [make_env(task_of("door_open", "gymnasium"), seed, "train") for seed in seeds]
    pool = VectorEnv(task_of("door_open"), seeds, "train")
    for env, seen in zip(envs, pool._backend._first, strict=True):
        env.reset()
        put("door_open", env, seen)
    # In each backend the policy acts on that backend's own observations.
    policy, successes, rewards = SawyerDoorOpenV3Policy(), [], []
    theirs = pool.observation
    for _ in range(100):
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Constant")  # the policy relies on clipping
            actions = [
                np.clip([policy.get_action(o.astype(np.float64)) for o in seen], -1, 1)
                for seen in (pool.observation, theirs)
            ]
        result = pool.step(actions[0])
        steps = [env.step(action) for env, action in zip(envs, actions[1], strict=True)]
        theirs = np.stack([step[0] for step in steps])
        successes.append((result.success, [step[-1]["success"] > 0 for step in steps]))
        rewards.append((result.reward, [step[1] for step in steps]))
    one, other = np.array(successes).transpose(1, 0, 2)
    assert one.any(0).all()
    assert abs(one.argmax(0) - other.argmax(0)).max() <= 1
    ours, expected = np.array(rewards).transpose(1, 0, 2)
    np.testing.assert_allclose(ours[:60], expected[:60], atol=1e-3)
    np.testing.assert_allclose(ours.sum(0), expected.sum(0), rtol=0.01)


@needs_envpool
@pytest.mark.parametrize("name", TASKS)
def test_starts_are_drawn_from_the_same_distribution(name: str) -> None:
    rows, episodes = 10, 10 if name == "door_open" else 30
    both = []
    for backend in ("envpool", "gymnasium"):
        pool = VectorEnv(task_of(name, backend), range(rows), "train")
        starts = []
        for _ in range(episodes):
            starts.append(pool.observation)
            pool.reset()
        both.append(np.concatenate(starts).round(5))
    assert len(np.unique(both[0], axis=0)) == rows * episodes
    for ours, theirs in zip(both[0].T, both[1].T, strict=True):
        assert ks_2samp(ours, theirs).pvalue > 1e-4


@needs_envpool
@pytest.mark.parametrize("name", TASKS)
def test_a_fixed_horizon_ends_at_the_recipes_limit_only(name: str) -> None:
    own = task_of(name).episode_steps
    for limit in (30, own + 10):
        task = task_of(name, episode_steps=limit, segment_steps=25)
        pool = VectorEnv(task, [0], "train")
        for step, action in enumerate(random_actions(task, limit + 2, 1), start=1):
            result = pool.step(action)
            assert not result.terminated[0]
            assert result.truncated[0] == (step == limit)
        assert pool.episodes == [1]


@needs_envpool
def test_a_variable_horizon_ends_where_the_walker_falls() -> None:
    task = task_of("walker2d", horizon="variable")
    pool, seeds = VectorEnv(task, range(4), "train"), range(4)
    envs = [make_env(task, seed, "train") for seed in seeds]
    for env, seen in zip(envs, pool._backend._first, strict=True):
        env.reset()
        put("walker2d", env, seen)
    fallen: dict[int, int] = {}
    for number, action in enumerate(random_actions(task, 200, 4), start=1):
        result = pool.step(action)
        for row in set(range(4)) - set(fallen):
            _, _, terminated, *_ = envs[row].step(action[row])
            assert result.terminated[row] == terminated
            if terminated:
                fallen[row] = number
    assert len(fallen) == 4
    # A fall in the last step is a termination too, not only a time limit.
    last = task_of("walker2d", horizon="variable", episode_steps=fallen[0], segment_steps=2)
    pool = VectorEnv(last, range(4), "train")
    for action in random_actions(task, 200, 4)[: fallen[0]]:
        result = pool.step(action)
    assert result.terminated[0]
    assert result.truncated[0]


@needs_envpool
def test_the_goal_is_observed_only_if_the_recipe_says_so() -> None:
    seen, blind = (
        VectorEnv(task_of("door_open", goal_visible=visible), [0], "train").observation[0]
        for visible in (True, False)
    )
    np.testing.assert_array_equal(blind[-3:], np.zeros(3))
    assert (seen[-3:] != 0).all()
    np.testing.assert_array_equal(seen[:-3], blind[:-3])
