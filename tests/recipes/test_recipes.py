"""Recipes of the suite, and rules for names of recipes."""

from __future__ import annotations

import os
import tomllib
from dataclasses import replace

import pytest
from helpers.checkout import ROOT
from helpers.environments import TASKS, task_of
from helpers.tiny import tiny_task

from mujoco_sail.recipes.ids import family
from mujoco_sail.recipes.load import load_task, recipe_folder, recipe_names, split_overrides
from mujoco_sail.recipes.settings import dump
from mujoco_sail.results.versions import ADDED_KEYS
from mujoco_sail.system.errors import UserError


@pytest.mark.filterwarnings("error")
def test_the_recipes_have_the_limits_of_their_benchmarks():
    limits = {name: task_of(name).episode_steps for name in TASKS}
    meta_world = [name for name in TASKS if family(task_of(name).id) == "Meta-World"]
    others = {"reacher": 50, "pusher": 100, **dict.fromkeys(meta_world, 500)}
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


# Steps, exploration, learning rate, batch, units, layers, labels, labels and steps per session,
# epochs: numbers of the scripts that the recipes name.
SCRIPTS = {
    "quadruped_walk": (1_000_000, 9000, 1e-4, 1024, 1024, 2, 2000, 200, 30_000, 50),
    "quadruped_run": (1_000_000, 9000, 1e-4, 1024, 1024, 2, 1000, 100, 30_000, 50),
    "humanoid_stand": (2_000_000, 9000, 1e-4, 1024, 1024, 2, 10_000, 50, 5000, 50),
    "button_press": (1_000_000, 9000, 3e-4, 512, 256, 3, 20_000, 100, 5000, 10),
    "sweep_into": (1_000_000, 9000, 3e-4, 512, 256, 3, 20_000, 100, 5000, 10),
    "drawer_open": (1_000_000, 9000, 3e-4, 512, 256, 3, 10_000, 100, 10_000, 10),
    "hammer": (2_000_000, 9000, 3e-4, 512, 256, 3, 10_000, 50, 5000, 10),
    "window_open": (500_000, 9000, 3e-4, 512, 256, 3, 10_000, 100, 5000, 10),
}


@pytest.mark.parametrize("name", SCRIPTS)
def test_the_protocol_paper_has_the_numbers_of_public_scripts(name: str) -> None:
    task = load_task(name, "paper", {})
    assert SCRIPTS[name] == (
        *(task.steps, task.exploration_steps, task.learning_rate, task.batch_size),
        *(task.hidden_units, task.hidden_layers, task.labels, task.labels_per_session),
        *(task.session_every, task.reward_epochs),
    )
    assert task.replay_capacity == task.steps
    # All labels are collected, but for those of at most one session.
    assert task.labels - task.labels_in_reach <= task.labels_per_session


def test_tasks_of_one_family_differ_by_what_they_are_called_and_ask_unless_they_say_so() -> None:
    own = {"name": "", "title": "", "question": "", "id": ""}
    for names in (("walker_walk", "cheetah_run", "quadruped_run"), ("button_press", "door_open")):
        for protocol in ("study", "quick"):
            tasks = [load_task(name, protocol, {}) for name in names]
            assert len({replace(task, **own) for task in tasks}) == 1


# Keys that the commands of published runs set with --set, or that a machine without a GPU sets.
SET_BY_COMMANDS = {"backend", "cuda_graph", "engine", "precision"}
SET_BY_COMMANDS |= {"steps", "evaluation_every", "log_every", "horizon"}
SET_BY_COMMANDS |= {"labels", "labels_per_session", "query_window", "exploration_steps"}


def test_recipes_have_the_settings_of_the_published_runs() -> None:
    files = (ROOT / "results").glob("**/seed_0/run.toml")
    runs = [tomllib.loads(file.read_text())["env"] for file in files]
    assert {run["name"] for run in runs} >= {"walker_walk", "door_open", "half_cheetah", "hopper"}
    for run in runs:
        recipe = dump(load_task(run["name"], run["protocol"], {}, run["teacher"]))
        later = {key.removeprefix("env.oracle."): value for key, value in ADDED_KEYS.items()}
        run["oracle"] = later | run["oracle"]
        assert {key for key in run if run[key] != recipe[key]} <= SET_BY_COMMANDS
