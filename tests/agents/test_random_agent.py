"""Random agent: uniform actions in evaluations, no training."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from helpers.command_line import fails, run
from helpers.runs import MakeRun, members_of, results_of, stop_after
from helpers.tiny import CPU, tiny_task
from scipy.stats import kstest

from mujoco_sail.agents.random_policy import RandomPolicy
from mujoco_sail.analysis import tables
from mujoco_sail.cli import main
from mujoco_sail.results.pooling import collect
from mujoco_sail.training.messages import Stopped
from mujoco_sail.training.run import Run
from mujoco_sail.training.worker import resume_points

# Episodes end early, at a different time for every member.
TASK = tiny_task(
    "hopper", horizon="variable", evaluation_episodes=2, evaluation_every=25, log_every=50
)


def agent_of(run: Run) -> RandomPolicy:
    agent = run.members[0].spec.agent(run)
    assert isinstance(agent, RandomPolicy)
    return agent


def test_actions_are_uniform_for_any_observation(make_run: MakeRun) -> None:
    run = make_run([("random", 0), ("random", 1)])
    agent = agent_of(run)
    actions = agent.policy(torch.full((2, 500, run.sizes[0]), 1e6))
    assert actions.shape == (2, 500, run.sizes[1])
    for member in actions:
        assert kstest(member.flatten().numpy(), "uniform", args=(-1, 2)).pvalue > 0.01
    assert not torch.equal(actions[0], actions[1])
    assert not torch.equal(agent.policy(torch.zeros(2, 500, run.sizes[0])), actions)


def test_a_member_writes_the_same_files_alone_and_in_a_stack(make_run: MakeRun) -> None:
    together = make_run([("random", seed) for seed in range(4)], TASK)
    alone = make_run([("random", 2)], TASK)
    for one in (together, alone):
        one.execute()
    files = results_of(together)
    assert files[6:9] == results_of(alone)
    assert files[6] != files[0]
    returns = pd.read_csv(alone.files[0].folder / "evaluations.csv")["episode_return"]
    assert returns.nunique() == len(returns) == 6  # new draws in every evaluation


def test_a_resumed_run_writes_the_same_files(tmp_path: Path, make_run: MakeRun) -> None:
    names = [("random", 0), ("random", 1)]
    whole = make_run(names, TASK)
    whole.execute()
    stopped = Run(TASK, members_of(names), CPU, tmp_path, lambda _: None)
    stop_after(stopped, 60)
    with pytest.raises(Stopped):
        stopped.execute()
    ((stack, start),) = resume_points(TASK, members_of(names), CPU, tmp_path, lambda _: None)
    assert start == 60
    again = Run(TASK, stack, CPU, tmp_path, lambda _: None, start)
    again.execute()
    assert results_of(again) == results_of(whole)


def test_it_uses_no_labels_and_has_no_policy_to_export(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path, "half_cheetah", "pebble,random") == 0
    rows = tables.comparison(collect(tmp_path), "pebble").set_index("agent")
    assert list(rows.index) == ["random", "pebble"]  # those without labels come first
    assert rows.loc["random", ["seeds", "labels"]].tolist() == [1, 0]
    assert np.isfinite(rows.loc["random", "final_return"])
    capsys.readouterr()
    folder = str(tmp_path / "half_cheetah" / "random" / "seed_0")
    assert "has no policy" in fails(capsys, "export", folder, "--out", str(tmp_path / "mine"))


def test_the_command_list_shows_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list"]) == 0
    assert "  random             Uniformly random actions" in capsys.readouterr().out
