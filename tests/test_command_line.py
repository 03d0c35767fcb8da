"""Whole runs, from the command line to files, table and figure."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import TINY, MakeRun, tiny_task

from mujoco_sail.agents.sail import SAIL
from mujoco_sail.cli import main
from mujoco_sail.recipes.load import load_task, recipe_folder, recipe_names
from mujoco_sail.training.evaluation import Evaluation

ROOT = Path(__file__).resolve().parent.parent
SMALL = [part for key, value in TINY.items() for part in ("--set", f"env.{key}={value}")]


def run(folder: Path, env: str, agents: str, seeds: str = "1", *more: str) -> int:
    options = ("--env", env, "--agents", agents, "--seeds", seeds, "--protocol", "quick")
    return main(["run", *options, "--results", str(folder), *SMALL, *more])


def test_a_benchmark_writes_its_files_its_table_and_its_figure(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert run(out, "half_cheetah", "sac,pebble,sail_revkl", "2") == 0
    folders = sorted(out.glob("*/*/*"))
    assert len(folders) == 6
    for folder in folders:
        about = tomllib.loads((folder / "run.toml").read_text())
        assert about["status"] == "complete"
        assert about["env"]["steps"] == TINY["steps"]
        assert about["versions"]["mujoco"] == "3.3.0"
        evaluations = pd.read_csv(folder / "evaluations.csv")
        assert evaluations["step"].tolist() == [75, 150]
        assert evaluations["episode_return"].notna().all()
        assert evaluations["success_rate"].isna().all()
        training = pd.read_csv(folder / "training.csv")
        # One update a step from step 60 on; preference learners do 100 more at once.
        asks = about["agent"]["name"] != "sac"
        assert training["updates"].tolist() == [16 + 0, 91 + 100 * asks]
        labels = pd.read_csv(folder / "feedback.csv")
        assert len(labels) == (8 if asks else 0)
        if asks:
            assert training["reward_updates"].iloc[-1] > 0
            assert training["held_out_accuracy"].between(0, 1).tolist() == [False, True]
    capsys.readouterr()
    assert main(["table", "--results", str(out)]) == 0
    table = capsys.readouterr().out
    assert all(name in table for name in ("sac", "pebble", "sail_revkl", "half_cheetah"))
    assert main(["plot", "--results", str(out), "--out", str(tmp_path / "figures")]) == 0
    assert {p.suffix for p in (tmp_path / "figures").iterdir()} == {".png", ".svg"}


def test_a_complete_run_is_not_run_again_and_a_missing_seed_is_added(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path, "half_cheetah", "sac") == 0
    first = tmp_path / "half_cheetah" / "sac" / "seed_0" / "run.toml"
    before = first.stat().st_mtime_ns
    assert run(tmp_path, "half_cheetah", "sac", "2") == 0
    assert "1 of 2 runs are complete already" in capsys.readouterr().out
    assert first.stat().st_mtime_ns == before
    assert (tmp_path / "half_cheetah" / "sac" / "seed_1" / "run.toml").is_file()


def test_a_failed_run_is_named_recorded_and_fails_the_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    refusing = ("--teacher", "skip", "--set", "env.oracle.skip=50.0")
    refusing += ("--set", "env.reward_range=[-100.0, 1.0]")
    code = run(tmp_path, "half_cheetah", "pebble,sac", "1", *refusing)
    assert code == 1
    assert "pebble seed 0: RuntimeError: teacher 'skip' refused" in capsys.readouterr().err
    about = tomllib.loads((tmp_path / "half_cheetah/pebble/seed_0/run.toml").read_text())
    assert about["status"] == "failed"
    assert "refused" in about["failure"]
    about = tomllib.loads((tmp_path / "half_cheetah/sac/seed_0/run.toml").read_text())
    assert about["status"] == "complete"


def test_an_agent_from_outside_the_repository_trains_and_stands_in_the_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The README's own example, word for word."""
    readme = (ROOT / "README.md").read_text()
    section = readme.split("## Add an agent")[1].split("\n## ")[0]
    files = re.findall(r"`(\w+\.\w+)`:?\n\n```\w+\n(.*?)```", section, re.DOTALL)
    assert [name for name, _ in files] == ["calm.py", "calm.toml"]
    assert sum(text.count("\n") for _, text in files) < 40
    for name, text in files:
        (tmp_path / name).write_text(text)
    monkeypatch.chdir(tmp_path)
    assert run(Path("out"), "half_cheetah", "pebble,calm.toml") == 0
    capsys.readouterr()
    assert main(["table", "--results", "out"]) == 0
    assert "calm" in capsys.readouterr().out
    training = [
        (tmp_path / f"out/half_cheetah/{name}/seed_0/training.csv").read_text()
        for name in ("pebble", "calm")
    ]
    assert training[0] != training[1]


@pytest.mark.parametrize("env", recipe_names("envs"))
def test_every_environment_trains_preference_learners(env: str, make_run: MakeRun) -> None:
    own = load_task(env, "quick", {})
    episode = min(own.episode_steps, TINY["episode_steps"])
    members = make_run([("pebble", 0), ("sail_revkl", 0)], tiny_task(env, episode_steps=episode))
    agent: Any = members.members[0].entry.agent(members)
    before = [p.detach().clone() for p in agent.actor.parameters]
    agent.train()
    for old, new in zip(before, agent.actor.parameters, strict=True):
        assert not torch.equal(old, new)
    assert agent.reward_updates.min() > 0
    assert all(value.isfinite().all() for value in agent.metrics().values())


@pytest.mark.parametrize("name", ["sb3_sac", "sb3_ppo"])
def test_stable_baselines_trains_in_the_same_harness(name: str, make_run: MakeRun) -> None:
    settings = {"sb3_ppo": {"n_steps": 50, "batch_size": 25}}
    members = make_run([(name, 0)], settings=settings)
    members.execute()
    evaluations = pd.read_csv(members.files[0].folder / "evaluations.csv")
    training = pd.read_csv(members.files[0].folder / "training.csv")
    assert evaluations["step"].tolist() == [75, 150]
    assert training["updates"].is_monotonic_increasing
    assert training["updates"].iloc[-1] >= 20
    assert training["critic_loss"].notna().all()


@pytest.mark.parametrize("name", ["sb3_sac", "sb3_ppo"])
def test_stable_baselines_is_reproducible(name: str, make_run: MakeRun) -> None:
    settings = {"sb3_ppo": {"n_steps": 50, "batch_size": 25}}
    texts = []
    for _ in range(2):
        members = make_run([(name, 1)], settings=settings)
        members.execute()
        texts.append((members.files[0].folder / "evaluations.csv").read_text())
    assert texts[0] == texts[1]


def test_the_evaluation_plays_the_policy_it_is_given_member_by_member() -> None:
    """Two members with opposite constant actions against environments stepped by hand."""
    task = tiny_task("reacher", episode_steps=20, evaluation_episodes=2, segment_steps=5)
    evaluation = Evaluation(task, [0, 0], torch.device("cpu"))

    def constant(observation: torch.Tensor) -> torch.Tensor:
        action = torch.ones(*observation.shape[:2], 2)
        action[1] = -1
        return action

    scores = evaluation(constant, 3)
    assert scores.returns.shape == (2, 2)
    envs = evaluation.envs
    envs.reset(3)
    by_hand = np.zeros(4)
    for _ in range(20):
        result = envs.step(np.repeat([[1.0, 1.0], [-1.0, -1.0]], 2, axis=0))
        by_hand += result.reward
    np.testing.assert_allclose(scores.returns.ravel(), by_hand)
    assert not np.allclose(scores.returns[0], scores.returns[1])


def test_evaluations_start_differently_but_equally_for_equal_seeds() -> None:
    task = tiny_task("reacher", episode_steps=20, evaluation_episodes=2, segment_steps=5)
    evaluation = Evaluation(task, [0, 0, 1], torch.device("cpu"))
    evaluation.envs.reset(1)
    first = evaluation.envs.observation.copy().reshape(3, 2, -1)
    evaluation.envs.reset(2)
    second = evaluation.envs.observation.reshape(3, 2, -1)
    assert np.array_equal(first[0], first[1])
    for other in (first[2], first[0, ::-1], second[0]):
        assert not np.allclose(first[0], other)


def test_the_list_names_every_environment_and_agent(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list"]) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("  ")]
    assert len(recipe_names("envs")) == 13
    assert len(lines) == 13 + len(recipe_names("agents"))
    assert all(len(line.split()) > 3 for line in lines)


def test_every_recipe_resolves_under_both_protocols() -> None:
    for env in recipe_names("envs"):
        for protocol in ("paper", "quick"):
            task = load_task(env, protocol, {})
            assert task.protocol == protocol
        path = recipe_folder("envs") / f"{env}.toml"
        assert path.read_text().startswith("#!/usr/bin/env -S mujoco-sail run --env\n")
        assert path.stat().st_mode & 0o111


def test_a_step_learns_from_the_transitions_of_the_steps_before_it(
    make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that a GPU can learn while the CPU simulates; the order is the same on the CPU."""
    learn, seen = SAIL.learn, []

    def watching_learn(agent: SAIL, step: int) -> None:
        seen.append((step, len(agent.replay_buffer)))
        learn(agent, step)

    monkeypatch.setattr(SAIL, "learn", watching_learn)
    make_run([("pebble", 0)]).execute()
    first, last = TINY["random_steps"], TINY["steps"]
    assert seen == [(step, step - 1) for step in range(first, last + 1)]
