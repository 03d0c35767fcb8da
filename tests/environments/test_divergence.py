"""Diverged simulations: a fault of the row only, and no file in the working folder."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest

from mujoco_sail.environments.factory import make_env
from mujoco_sail.environments.vector import VectorEnv
from mujoco_sail.environments.wrappers import DivergedError, DivergenceGuard
from mujoco_sail.recipes.load import load_task
from mujoco_sail.recipes.task import Task

LIBRARIES = ["half_cheetah", "walker_walk", "door_open"]
BAD = {
    "QPOS": ("qpos", np.nan),
    "QVEL": ("qvel", 1e12),
    "QACC": ("qfrc_applied", 1e300),
}


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    yield
    assert list(tmp_path.iterdir()) == []


def task_of(name: str) -> Task:
    return load_task(name, "quick", {"episode_steps": 6, "segment_steps": 6})


def simulation(env: gymnasium.Env[Any, Any]) -> Any:
    world: Any = env.unwrapped
    return getattr(world, "physics", world).data


def actions(envs: VectorEnv) -> np.ndarray:
    return np.full((len(envs.observation), envs._backend.action_size), 0.1, np.float32)


@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("name", LIBRARIES)
def test_a_diverged_row_is_a_fault_and_does_not_affect_the_other_row(
    name: str, bad: str, capfd: pytest.CaptureFixture[str]
) -> None:
    field, value = BAD[bad]
    with (
        closing(VectorEnv(task_of(name), [0, 1], "test")) as envs,
        closing(VectorEnv(task_of(name), [1], "test")) as alone,
    ):
        for step in range(9):  # into the next episode
            if step == 2:
                diverging: Any = envs._backend
                getattr(simulation(diverging.envs[0]), field)[:] = value
            both, one = envs.step(actions(envs)), alone.step(actions(alone))
            for part in vars(one):
                np.testing.assert_array_equal(getattr(both, part)[1:], getattr(one, part))
            np.testing.assert_array_equal(envs.observation[1:], alone.observation)
            assert set(envs.faults) == ({0} if step >= 2 else set())
        assert f"mjWARN_BAD{bad}" in envs.faults[0]
        assert "crashed" in envs.faults[0]
        assert not envs.observation[0].any()
        assert not alone.faults
    assert capfd.readouterr().out == ""


@pytest.mark.parametrize("name", ["half_cheetah", "door_open"])
def test_a_reset_that_diverges_is_a_fault_of_its_row(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(VectorEnv(task_of(name), [0, 1], "test")) as envs:
        backend: Any = envs._backend
        world = backend.envs[1].unwrapped
        reset_model = world.reset_model

        def diverging_reset_model() -> Any:
            reset_model()
            world.data.qvel[:] = 1e12
            world.do_simulation(np.zeros(world.model.nu), 1)
            return reset_model() if name == "half_cheetah" else world._get_obs()

        monkeypatch.setattr(world, "reset_model", diverging_reset_model)
        envs.reset()
        assert set(envs.faults) == {1}
        assert "mjWARN_BADQVEL" in envs.faults[1]
        assert envs.observation[0].any()


def test_a_control_that_mujoco_replaces_is_a_fault_too() -> None:
    env = make_env(task_of("half_cheetah"), 0, "test")
    env.reset()
    with pytest.raises(DivergedError, match="mjWARN_BADCTRL"):
        env.step(np.full(6, np.nan, np.float32))
    env.reset()
    env.step(np.zeros(6, np.float32))


@pytest.mark.parametrize("name", LIBRARIES)
def test_a_single_environment_raises_an_error_when_its_simulation_diverges(name: str) -> None:
    env = make_env(task_of(name), 0, "test")
    env.reset()
    simulation(env).qvel[:] = 1e12
    with pytest.raises(RuntimeError, match="mjWARN_BADQVEL"):
        env.step(np.zeros(env.action_space.shape or (), np.float32))


def test_an_environment_without_mujoco_is_not_changed() -> None:
    guarded = DivergenceGuard(gymnasium.make("Pendulum-v1"))
    bare = gymnasium.make("Pendulum-v1")
    np.testing.assert_array_equal(guarded.reset(seed=3)[0], bare.reset(seed=3)[0])
    torque = np.ones(1, np.float32)
    np.testing.assert_array_equal(guarded.step(torque)[0], bare.step(torque)[0])


def test_mujoco_is_not_imported_before_an_environment_is_made() -> None:
    script = """
import sys
import mujoco_sail.environments.vector, mujoco_sail.policies.film
assert "mujoco" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", script], check=True)
