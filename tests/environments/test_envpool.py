"""EnvPool backend: the interface of the Gymnasium backend, and errors for other tasks."""

from __future__ import annotations

import sys
from types import ModuleType

import numpy as np
import pytest
import torch
from helpers.command_line import fails
from helpers.environments import SHORT, assert_same, random_actions
from helpers.envpool import TASKS, needs_envpool, task_of
from helpers.tiny import CPU

from mujoco_sail.environments.vector import VectorEnv, threads_for
from mujoco_sail.recipes.load import recipe_names

# --- the same interface ---


@needs_envpool
@pytest.mark.parametrize("name", TASKS)
def test_an_episode_is_a_function_of_seed_purpose_and_number(name: str) -> None:
    task = task_of(name, episode_steps=SHORT)
    actions = random_actions(task, 2 * SHORT + 10, 3)
    one, other = VectorEnv(task, [1, 3, 7], "train"), VectorEnv(task, [3], "train", threads=2)
    for step, action in enumerate(actions):
        # The second episode depends neither on actions in the first, nor on rows and threads.
        mine = action[1:2] if step >= SHORT else -action[1:2]
        ours, theirs = one.step(action), other.step(mine)
        if step >= SHORT:
            assert_same(theirs, ours, slice(1, 2))
    np.testing.assert_array_equal(other.observation, one.observation[1:2])
    assert other.episodes == [2]
    begun = [
        VectorEnv(task, [seed], purpose).observation for seed, purpose in ((4, "train"), (3, "x"))
    ]
    other.reset(0)
    begun += [other.observation]
    assert other.episodes == [0]
    assert len(np.unique(np.concatenate(begun), axis=0)) == 3


@needs_envpool
@pytest.mark.parametrize(
    ("name", "horizon"), [*((name, "fixed") for name in TASKS), ("walker2d", "variable")]
)
def test_a_killed_run_is_restored_by_repeating_its_actions(name: str, horizon: str) -> None:
    task = task_of(name, episode_steps=SHORT, horizon=horizon)
    actions = random_actions(task, SHORT + 40, 3)
    lived = VectorEnv(task, [1, 2, 3], "train")
    for action in actions[: SHORT + 20]:
        lived.step(action)
    rebuilt = VectorEnv(task, [1, 2, 3], "train")
    rebuilt.load(lived.state())
    assert rebuilt.episodes == lived.episodes != [0, 0, 0]
    np.testing.assert_array_equal(rebuilt.observation, lived.observation)
    for action in actions[SHORT + 20 :]:
        assert_same(rebuilt.step(action), lived.step(action))
    np.testing.assert_array_equal(rebuilt.observation, lived.observation)


@needs_envpool
def test_reset_starts_the_next_episode_or_a_given_one() -> None:
    pool = VectorEnv(task_of("reacher"), [0, 1], "train")
    begun = [pool.observation]
    for _ in range(2):
        pool.reset()
        begun.append(pool.observation)
    assert pool.episodes == [2, 2]
    for number in (2, 0, 1, 1, 2):
        pool.reset(number)
        assert pool.episodes == [number, number]
        np.testing.assert_array_equal(pool.observation, begun[number])
        pool.step(np.zeros((2, 2)))
    assert len(np.unique(np.concatenate(begun), axis=0)) == 6


@needs_envpool
def test_returned_arrays_are_never_written_to() -> None:
    task = task_of("reacher", episode_steps=2, segment_steps=2)
    pool = VectorEnv(task, [0, 1], "train")
    handed_out: list[np.ndarray] = []
    for action in random_actions(task, 6, 2):
        handed_out.append(pool.observation)
        handed_out += vars(pool.step(action)).values()
    copies = [array.copy() for array in handed_out]
    pool.load(pool.state())
    pool.reset()
    pool.step(random_actions(task, 2, seed=1))
    for array, copy in zip(handed_out, copies, strict=True):
        np.testing.assert_array_equal(array, copy)


def test_environments_have_all_cores_on_a_gpu_and_one_on_the_cpu(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("mujoco_sail.environments.vector.available_cores", lambda: 16)
    assert threads_for(torch.device("cuda")) == 16
    assert threads_for(CPU) == 1


# --- errors ---


def refusal(capsys: pytest.CaptureFixture[str], env: str, agents: str = "pebble") -> str:
    options = ["--env", env, "--agents", agents, "--seeds", "1", "--set", "env.backend=envpool"]
    said = fails(capsys, "run", *options)
    assert said.startswith(f"mujoco-sail: {env}: key 'backend' is 'envpool'")
    return said


def test_without_envpool_the_package_and_the_command_are_named(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "envpool", None)
    assert "pip install 'mujoco-sail[fast]'" in refusal(capsys, "half_cheetah")


@pytest.mark.parametrize("name", sorted({*recipe_names("envs")} - {*TASKS}))
def test_a_task_that_envpool_does_not_have_is_an_error(
    capsys: pytest.CaptureFixture[str], name: str
) -> None:
    assert "known to be the same task" in refusal(capsys, name)


def test_an_agent_with_its_own_environments_is_an_error(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "envpool", ModuleType("envpool"))
    assert "sb3_sac makes environments" in refusal(capsys, "half_cheetah", "sac,sb3_sac")
