"""States of the simulator are kept, and written back exactly."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.environments import random_actions, task_of
from helpers.envpool import needs_envpool

from mujoco_sail.environments.factory import make_env
from mujoco_sail.environments.states import read_state, write_state
from mujoco_sail.environments.vector import VectorEnv
from mujoco_sail.system.errors import UserError

FAMILIES = ("walker_walk", "door_open", "hopper", "quadruped_walk", "pusher")


@pytest.mark.parametrize("name", FAMILIES)
def test_a_kept_state_is_that_in_which_its_step_ended(name: str) -> None:
    """Also the last of an episode, before the next one starts."""
    task = task_of(name, episode_steps=7, segment_steps=5)
    envs = VectorEnv(task, [3, 4], "training", keep=20)
    actions = random_actions(task, 16, 2)
    for action in actions:
        envs.step(action)
    assert envs.states is not None
    for row, seed in enumerate((3, 4)):
        env = make_env(task, seed, "training")
        found = envs.states.take(row, np.arange(16))
        for step in range(16):
            if step % 7 == 0:
                env.reset()
            env.step(actions[step, row])
            assert found[step, 0] == step // 7
            np.testing.assert_array_equal(found[step, 1:], read_state(env))


@pytest.mark.parametrize("name", FAMILIES)
def test_a_state_that_is_written_is_read_back(name: str) -> None:
    task = task_of(name)
    one, other = (make_env(task, 3, "training") for _ in range(2))
    for env in (one, other):
        env.reset()
    for action in random_actions(task, 20):
        one.step(action)
    state = read_state(one)
    assert (state != read_state(other)).any()
    write_state(other, state)
    np.testing.assert_array_equal(read_state(other), state)


def test_only_the_newest_states_are_kept_and_a_checkpoint_has_them() -> None:
    task = task_of("hopper")
    envs, other = (VectorEnv(task, [3], "training", keep=5) for _ in range(2))
    for action in random_actions(task, 12, 1):
        envs.step(action)
    assert envs.states is not None
    assert other.states is not None
    saved = envs.state()
    assert saved["states"]["kept"].shape[:2] == (1, 5)
    other.load(saved)
    steps = np.arange(7, 12)
    np.testing.assert_array_equal(other.states.take(0, steps), envs.states.take(0, steps))
    for envs_ in (envs, other):
        envs_.step(random_actions(task, 1, seed=1))
    np.testing.assert_array_equal(
        other.states.take(0, np.array([12])), envs.states.take(0, np.array([12]))
    )


def test_no_states_are_kept_unless_asked_for() -> None:
    envs = VectorEnv(task_of("hopper"), [3], "training")
    assert envs.states is None
    assert "states" not in envs.state()


@needs_envpool
def test_a_person_is_not_shown_what_cannot_be_drawn() -> None:
    with pytest.raises(UserError, match="'backend' is envpool; expected gymnasium"):
        task_of("hopper", backend="envpool", teacher="human")
