"""Tasks of EnvPool equal those of Gymnasium."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
from helpers.environments import random_actions
from helpers.envpool import META_WORLD, TASKS, needs_envpool, put_first, task_of
from scipy.stats import ks_2samp

from mujoco_sail.environments.factory import make_env
from mujoco_sail.environments.vector import VectorEnv
from mujoco_sail.recipes.task import Task

MARGINS = ["pusher"]  # equal until the first contact, as are door_open and button_press
# Tasks whose first observation has the place of the hand one step of the simulation later.
LATE_HAND = ["drawer_open", "window_open"]


def play_both(name: str, task: Task, seeds: list[int], actions: np.ndarray) -> tuple[Any, Any]:
    """Observations, rewards and successes of both backends, from equal states, [T, M, ...]."""
    pool = VectorEnv(task, seeds, "train")
    envs = [make_env(task, seed, "train") for seed in seeds]
    for row, env in enumerate(envs):
        put_first(name, env, pool._backend, row)
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
        begin = 1e-4 if name in LATE_HAND else 1e-5  # the first observation is in the second one
        np.testing.assert_allclose(one[:1], other[:1], rtol=1e-5, atol=begin)
        np.testing.assert_allclose(one[1:], other[1:], rtol=1e-5, atol=1e-5)
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
@pytest.mark.parametrize("name", META_WORLD)
def test_both_backends_succeed_in_the_same_steps(name: str) -> None:
    from metaworld import policies

    seeds = [0, 1, 2, 3]
    envs = [make_env(task_of(name, "gymnasium"), seed, "train") for seed in seeds]
    pool = VectorEnv(task_of(name), seeds, "train")
    for row, env in enumerate(envs):
        put_first(name, env, pool._backend, row)
    # In each backend the policy acts on that backend's own observations.
    policy = getattr(policies, f"Sawyer{name.title().replace('_', '')}V3Policy")()
    theirs, successes, rewards = pool.observation, [], []
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
    close = 2e-3 if name == "button_press" else 1e-3  # a contact with margins from step 33 on
    np.testing.assert_allclose(ours[:60], expected[:60], atol=close)
    np.testing.assert_allclose(ours.sum(0), expected.sum(0), rtol=0.01)


@needs_envpool
@pytest.mark.parametrize("name", TASKS)
def test_starts_are_drawn_from_the_same_distribution(name: str) -> None:
    rows, episodes = 10, 10 if name in META_WORLD else 30
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
        if name in LATE_HAND and np.ptp([*ours, *theirs]) < 1e-4:
            continue  # the hand, which always starts at the same place
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
    for row, env in enumerate(envs):
        put_first("walker2d", env, pool._backend, row)
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
