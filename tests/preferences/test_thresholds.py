"""Thresholds of `skip` and `equal` for any level of the rewards."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from helpers.runs import MakeRun
from helpers.tiny import CPU, tiny_task
from torch import Tensor

from mujoco_sail.core.streams import Streams
from mujoco_sail.preferences.teacher import RecentRewards, TeacherLabels, label_pairs
from mujoco_sail.recipes.task import Teacher

PAIRS, STEPS = 400, 10


def teacher(**faults: float) -> Teacher:
    neutral = {
        "beta": math.inf,
        "mistake": 0.0,
        "similarity": 0.0,
        "skip": 0.1,
        "equal": 0.1,
        "myopic": 1.0,
    }
    return Teacher(**{**neutral, **faults})


def say(who: Teacher, rewards: Tensor, low: float, high: float) -> TeacherLabels:
    """Labels of pairs with rewards [2, P, T], which are also the query window."""
    first, second = ((side.unsqueeze(0), torch.ones(1, PAIRS, STEPS)) for side in rewards)
    recent = RecentRewards.of([rewards.flatten()], low)
    return label_pairs(who, (low, high), first, second, recent, Streams([0], "thresholds", CPU))


def noise(seed: int = 0) -> Tensor:
    """Rewards of standard deviation 1 around segment means of standard deviation 1."""
    generator = torch.Generator().manual_seed(seed)
    within = torch.randn(2, PAIRS, STEPS, generator=generator)
    return within + torch.randn(2, PAIRS, 1, generator=generator)


@pytest.mark.parametrize("myopic", [1.0, 0.9])
@pytest.mark.parametrize("mean", [-100.0, -3.0, 0.0, 3.0])
def test_most_pairs_are_answered_and_some_are_ties_for_any_level_of_reward(
    mean: float, myopic: float
) -> None:
    said = say(teacher(myopic=myopic), mean + noise(), -1.0, 10.0)
    assert said.answered.float().mean() > 0.9
    ties = (said.label[said.answered] == 0.5).float().mean()
    assert 0.02 < ties < 0.6


def test_skip_refuses_the_lowest_returns_also_below_the_range() -> None:
    """Floor -6, mean -3: the threshold at 0.1 is -6 + 0.1 * 3 = -5.7 per step."""
    rewards = torch.full((2, PAIRS, STEPS), -1.0)
    rewards[:, ::2] = -5.0
    rewards[:, 0] = -5.8
    rewards[0, 0, 0] = -6.0
    rewards[:, 2] = -5.6
    said = say(teacher(), rewards, -0.3, 10.0)
    assert not said.answered[0, 0]
    assert said.answered[0, 1:].all()


def test_a_window_of_one_reward_is_answered_with_ties() -> None:
    for value in (-0.7, 0.3, 2.3):
        said = say(teacher(), torch.full((2, PAIRS, STEPS), value), 0.3, 1.3)
        assert said.answered.all()
        assert (said.label == 0.5).all()


def test_a_shift_of_all_rewards_below_the_range_changes_nothing() -> None:
    """Floor and mean shift equally; multiples of 1/64 avoid rounding."""
    rewards = (noise() * 64).round() / 64
    near, far = (say(teacher(), rewards - shift, 0.0, 1.0) for shift in (16.0, 1024.0))
    assert torch.equal(near.label, far.label)
    assert torch.equal(near.answered, far.answered)


def test_on_rewards_from_zero_up_thresholds_are_shares_of_the_mean_return() -> None:
    """Bitwise equal to B-Pref's rule, as for DeepMind Control."""
    rewards = torch.rand(2, PAIRS, STEPS, generator=torch.Generator().manual_seed(1)) ** 8
    said = say(teacher(skip=0.6, equal=0.3), rewards, 0.0, 1.0)
    level = rewards.flatten().mean() * STEPS
    first, second = rewards.sum(-1)
    better = torch.maximum(first, second)
    assert torch.equal(said.answered[0], better >= 0.6 * level)
    truth = 0.5 * (1 + (first - second).sign())
    expected = torch.where((first - second).abs() < 0.3 * level, 0.5, truth)
    assert torch.equal(said.label[0], expected)
    assert 0 < said.answered.float().mean() < 1
    assert 0 < (expected == 0.5).float().mean() < 1


@pytest.mark.parametrize("env", ["half_cheetah", "pusher", "reacher"])
def test_queries_about_rewards_below_the_range_are_answered(env: str, make_run: MakeRun) -> None:
    changes: dict[str, Any] = {"candidates_per_label": 25}
    if env == "half_cheetah":
        changes["reward_range"] = [0.0, 10.0]  # rewards of random policies are below it
    run = make_run([("pebble", 1)], tiny_task(env, "skip+equal", **changes))
    run.members[0].spec.agent(run).train()
    queries = run.feedback.queries[0]
    answered = [query.label for query in queries if query.label is not None]
    assert len(answered) == 8
    assert len(queries) < 12
    recent = np.mean([query.return_1 for query in queries]) / run.task.segment_steps
    assert recent < run.task.reward_range[0] + 0.3 * np.ptp(run.task.reward_range)
