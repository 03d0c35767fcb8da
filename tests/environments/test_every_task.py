"""All tasks of dm_control's suite and of Meta-World can be named by a file of three lines."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from dm_control import suite
from dm_control.rl import control
from helpers.command_line import overrides, without_workers
from helpers.environments import random_actions
from helpers.tiny import TINY
from metaworld import ALL_V3_ENVIRONMENTS

from mujoco_sail.cli import main
from mujoco_sail.environments.factory import make_env
from mujoco_sail.environments.vector import VectorEnv
from mujoco_sail.recipes.load import load_task
from mujoco_sail.system.errors import UserError

SUITE = [f"{domain}-{task}" for domain, task in suite.ALL_TASKS]
# Their controls have no limits, so there is no range for actions; nor do they have a time limit.
WITHOUT_LIMITS = ["lqr-lqr_2_1", "lqr-lqr_6_2"]
# It sends its terrain to a renderer at every start, and runs disable rendering.
WITH_TERRAIN = "quadruped-escape"
STEPS = 5


def three_lines(folder: Path, base: str, id: str) -> str:
    """Path of a recipe."""
    file = folder / "mine.toml"
    file.write_text(f'base = "base/{base}.toml"\ntitle = "mine"\nid = "{id}"\n')
    return str(file)


def play_an_episode(recipe: str) -> VectorEnv:
    """Plays a short episode of a recipe and checks what its family says of it."""
    task = load_task(recipe, "quick", {"episode_steps": STEPS, "segment_steps": STEPS})
    envs = VectorEnv(task, [0], "train")
    low, high = task.reward_range
    for step, action in enumerate(random_actions(task, STEPS, 1), start=1):
        result = envs.step(action)
        assert envs.faults == {}
        assert low <= result.reward[0] <= high
        assert not result.terminated[0]
        assert result.truncated[0] == (step == STEPS)
    assert envs.episodes == [1]
    return envs


@pytest.mark.parametrize("name", sorted({*SUITE} - {*WITHOUT_LIMITS, WITH_TERRAIN}))
def test_a_task_of_dm_control_is_three_lines(name: str, tmp_path: Path) -> None:
    envs = play_an_episode(three_lines(tmp_path, "dm_control", f"dm_control/{name}-v0"))
    assert not envs.has_success


def test_a_task_with_terrain_crashes_where_rendering_is_disabled(tmp_path: Path) -> None:
    recipe = three_lines(tmp_path, "dm_control", f"dm_control/{WITH_TERRAIN}-v0")
    code = "import sys; from mujoco_sail.environments.vector import VectorEnv\n"
    code += "from mujoco_sail.recipes.load import load_task\n"
    code += "print(VectorEnv(load_task(sys.argv[1], 'quick', {}), [0], 'train').faults)"
    command = [sys.executable, "-c", code, recipe]
    variables = {**os.environ, "MUJOCO_GL": "disable"}
    said = subprocess.check_output(command, env=variables, text=True)
    assert said.startswith("{0: 'the environment crashed: RuntimeError: No OpenGL rendering")


@pytest.mark.parametrize("name", WITHOUT_LIMITS)
def test_a_task_without_limits_of_its_controls_is_an_error(name: str, tmp_path: Path) -> None:
    recipe = three_lines(tmp_path, "dm_control", f"dm_control/{name}-v0")
    with pytest.raises(UserError, match="expected bounded continuous actions"):
        make_env(load_task(recipe, "quick", {}), 0, "train")


@pytest.mark.parametrize("name", sorted({*SUITE} - {*WITHOUT_LIMITS}))
def test_a_task_of_dm_control_ends_where_its_family_says_so(name: str, tmp_path: Path) -> None:
    family = load_task(three_lines(tmp_path, "dm_control", f"dm_control/{name}-v0"), "quick", {})
    env = suite.load(*name.split("-"))
    assert round(env._step_limit) == family.episode_steps
    assert type(env.task).get_termination is control.Task.get_termination


@pytest.mark.parametrize("name", sorted(ALL_V3_ENVIRONMENTS))
def test_a_task_of_meta_world_is_three_lines(name: str, tmp_path: Path) -> None:
    recipe = three_lines(tmp_path, "metaworld", f"Meta-World/{name}")
    envs = play_an_episode(recipe)
    assert envs.has_success
    backend: Any = envs._backend
    (env,) = backend.envs
    *_, info = env.step(np.zeros(4, np.float32))
    assert info["success"] in (0.0, 1.0)
    assert ALL_V3_ENVIRONMENTS[name].max_path_length == load_task(recipe, "quick", {}).episode_steps


def test_there_are_fifty_tasks_of_meta_world_and_fifty_one_of_dm_control() -> None:
    assert (len(ALL_V3_ENVIRONMENTS), len(SUITE)) == (50, 51)


def test_a_task_that_the_suite_does_not_name_is_trained_from_three_lines(tmp_path: Path) -> None:
    recipe = three_lines(tmp_path, "metaworld", "Meta-World/plate-slide-v3")
    options = ["--env", recipe, "--agents", "pebble", "--seeds", "1", "--protocol", "quick"]
    options += [*overrides(TINY), "--results", str(tmp_path)]
    with without_workers():
        assert main(["run", *options]) == 0
    table = pd.read_csv(tmp_path / "mine/pebble/seed_0/evaluations.csv")
    assert table["step"].tolist() == [75, 150]
    assert table["success_rate"].between(0, 1).all()
