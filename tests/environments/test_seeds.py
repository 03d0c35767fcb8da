"""An episode depends only on its seed, its purpose and its number."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from helpers.environments import KINDS, SHORT, TASKS, assert_same, play, random_actions, task_of

from mujoco_sail.environments.factory import make, make_env
from mujoco_sail.environments.vector import StepResult, VectorEnv

pytestmark = pytest.mark.filterwarnings("error")


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


@pytest.mark.parametrize("name", KINDS)
def test_a_seed_of_any_size_decides_the_episodes_that_follow(name):
    env, other = (make(name, seed=seed) for seed in (0, 1))
    other.reset()
    starts = [[each.reset(seed=2**40 + 5)[0], each.reset()[0]] for each in (env, other)]
    np.testing.assert_array_equal(*starts)
    assert (starts[0][0] != starts[0][1]).any()
    assert (env.reset(seed=6)[0] != starts[0][0]).any()
    assert (env.reset()[0] != starts[0][1]).any()


@pytest.mark.parametrize("name", KINDS)
def test_a_row_does_not_depend_on_the_other_rows(name):
    task = task_of(name, episode_steps=SHORT)
    alone, together = VectorEnv(task, [3], "train"), VectorEnv(task, [1, 3, 7], "train")
    for action in random_actions(task, SHORT + 10, 3):
        one, all_rows = alone.step(action[1:2]), together.step(action)
        assert_same(one, StepResult(*(getattr(all_rows, field)[1:2] for field in vars(all_rows))))
        np.testing.assert_array_equal(alone.observation, together.observation[1:2])


@pytest.mark.parametrize(
    ("name", "horizon"), [*((name, "fixed") for name in KINDS), ("hopper", "variable")]
)
def test_a_killed_run_is_restored_by_seeding_and_repeating(name, horizon):
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


@pytest.mark.parametrize("name", KINDS)
def test_global_generators_are_neither_used_nor_changed(name):
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


def test_reset_starts_the_next_episode_or_a_given_one():
    envs = VectorEnv(task_of("reacher"), [0, 1], "train")
    first = envs.observation
    assert envs.episodes == [0, 0]
    envs.reset()
    assert envs.episodes == [1, 1]
    assert (envs.observation != first).any(axis=1).all()
    envs.reset(0)
    assert envs.episodes == [0, 0]
    np.testing.assert_array_equal(envs.observation, first)


def test_returned_arrays_are_never_written_to():
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
