"""Recipes of the suite, and rules for names of recipes."""

from __future__ import annotations

import os

import pytest
from helpers.environments import TASKS, task_of
from helpers.tiny import tiny_task

from mujoco_sail.recipes.load import load_task, recipe_folder, recipe_names, split_overrides
from mujoco_sail.system.errors import UserError


@pytest.mark.filterwarnings("error")
def test_the_recipes_have_the_limits_of_their_benchmarks():
    limits = {name: task_of(name).episode_steps for name in TASKS}
    others = {"door_open": 500, "reacher": 50, "pusher": 100}
    assert limits == {name: others.get(name, 1000) for name in TASKS}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", TASKS)
def test_an_environment_recipe_is_a_script(name):
    path = recipe_folder("envs") / f"{name}.toml"
    assert os.access(path, os.X_OK)
    assert path.read_text().startswith("#!/usr/bin/env -S mujoco-sail run --env\n")


def test_every_protocol_uses_gymnasium_by_default() -> None:
    for name in recipe_names("envs"):
        for protocol in ("paper", "study", "quick"):
            assert load_task(name, protocol, {}).backend == "gymnasium"


def test_teachers_compose_by_name() -> None:
    oracle = tiny_task(teacher="noisy+skip").oracle
    assert tiny_task(teacher="skip+noisy") == tiny_task(teacher="noisy+skip")
    assert tiny_task(teacher="skip+noisy").teacher == "noisy+skip"
    assert (oracle.beta, oracle.skip, oracle.mistake) == (3.0, 0.1, 0.0)
    with pytest.raises(UserError, match=r"unknown teacher 'nosy'; did you mean 'noisy'"):
        tiny_task(teacher="nosy")


def test_a_name_with_dots_is_one_name() -> None:
    task, agents = split_overrides(["agent.v0.1.lambda=2"], ["v0.1"])
    assert (task, agents) == ({}, {"v0.1": {"lambda": 2}})


def test_every_recipe_resolves_under_every_protocol() -> None:
    for env in recipe_names("envs"):
        for protocol in ("paper", "study", "quick"):
            task = load_task(env, protocol, {})
            assert task.protocol == protocol
        path = recipe_folder("envs") / f"{env}.toml"
        assert path.read_text().startswith("#!/usr/bin/env -S mujoco-sail run --env\n")
        assert path.stat().st_mode & 0o111
