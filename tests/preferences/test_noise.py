"""Noisy teacher: beta means the same on every task."""

from __future__ import annotations

import math

import pytest
import torch
from helpers.runs import MakeRun
from helpers.tiny import CPU, tiny_task
from torch import Tensor

from mujoco_sail.core.streams import Streams
from mujoco_sail.preferences.teacher import RecentRewards, TeacherLabels, label_pairs
from mujoco_sail.recipes.load import load_task, recipe_names
from mujoco_sail.recipes.task import Teacher

PAIRS, STEPS = 2000, 5
NOISY = load_task("half_cheetah", "quick", {}, "noisy").oracle


def rewards_of(seed: int, pairs: int = PAIRS) -> Tensor:
    """Task rewards of pairs, [2, P, T]."""
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(2, pairs, STEPS, generator=generator)


def say(
    who: Teacher,
    rewards: Tensor,
    seeds: list[int],
    reward_range: tuple[float, float] = (0.0, 1.0),
) -> TeacherLabels:
    """Labels of pairs, rewards [M, 2, P, T]."""
    valid = torch.ones_like(rewards[:, 0])
    recent = RecentRewards.of(list(rewards.flatten(1)), reward_range[0])
    first, second = ((rewards[:, side], valid) for side in (0, 1))
    return label_pairs(who, reward_range, first, second, recent, Streams(seeds, "noise", CPU))


def wrong(said: TeacherLabels, rewards: Tensor) -> float:
    first, second = rewards.sum(-1)
    return (said.label[0] != (first > second).float()).float().mean().item()


@pytest.mark.parametrize("env", recipe_names("envs"))
@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_the_noisy_teacher_is_wrong_once_in_about_five_labels_whatever_the_rewards(
    env: str, scale: float
) -> None:
    reward_range = load_task(env, "quick", {}).reward_range
    rewards = scale * rewards_of(0)
    said = say(NOISY, rewards[None], [0], reward_range)
    assert set(said.label.unique().tolist()) == {0.0, 1.0}
    assert 0.15 < wrong(said, rewards) < 0.25


@pytest.mark.parametrize("power", [-100, -8, 8, 100])
def test_noise_depends_on_differences_between_pairs_alone(power: int) -> None:
    """Powers of two scale exactly; squares of the extreme ones overflow or underflow float32."""
    rewards = rewards_of(1)
    scaled = say(NOISY, 2.0**power * rewards[None], [0])
    assert torch.equal(scaled.label, say(NOISY, rewards[None], [0]).label)


def test_a_larger_difference_gives_a_more_reliable_label() -> None:
    """Half of the margins are 1, half are 3: the unit is sqrt((1 + 9) / 2) = sqrt(5)."""
    many = 20_000
    rewards = torch.zeros(2, many, 1)
    rewards[0, : many // 2], rewards[0, many // 2 :] = 1.0, 3.0
    label = say(
        Teacher(beta=2.0, mistake=0, similarity=0, skip=0, equal=0, myopic=1), rewards[None], [0]
    ).label[0]
    for half, margin in ((label[: many // 2], 1.0), (label[many // 2 :], 3.0)):
        expected = 1 / (1 + math.exp(-2.0 * margin / math.sqrt(5.0)))
        assert half.mean().item() == pytest.approx(expected, abs=0.015)  # 4.5 standard deviations


def test_exact_ties_do_not_change_the_noise_of_other_labels() -> None:
    """Sparse reward: a quarter of the pairs differ, all equally: sigmoid(1) = 0.7311."""
    many = 80_000
    rewards = torch.zeros(2, many, 1)
    rewards[0, ::4] = 7.0
    label = say(
        Teacher(beta=1.0, mistake=0, similarity=0, skip=0, equal=0, myopic=1), rewards[None], [0]
    ).label[0]
    assert label[::4].mean().item() == pytest.approx(0.7310586, abs=0.015)
    assert label[1::4].mean().item() == pytest.approx(0.5, abs=0.015)
    assert set(label[1::4].unique().tolist()) == {0.0, 1.0}


def test_a_members_noise_does_not_depend_on_its_neighbours() -> None:
    """Members with other scales of reward do not change a member's unit and draws."""
    stacked = torch.stack([rewards_of(0, 97), 1e4 * rewards_of(1, 97), 1e-4 * rewards_of(2, 97)])
    together = say(NOISY, stacked, [4, 5, 6])
    for member, seed in enumerate([4, 5, 6]):
        alone = say(NOISY, stacked[member : member + 1], [seed])
        assert torch.equal(together.label[member], alone.label[0])


def test_equal_agents_with_equal_seeds_get_equal_labels() -> None:
    rewards = rewards_of(3).expand(2, -1, -1, -1)
    labels = say(NOISY, rewards, [7, 7]).label
    assert torch.equal(labels[0], labels[1])


def test_pairs_without_a_difference_get_random_labels() -> None:
    label = say(NOISY, torch.full((1, 2, PAIRS, STEPS), 0.3), [0]).label
    assert 0.45 < label.mean() < 0.55
    assert set(label.unique().tolist()) == {0.0, 1.0}


def test_all_faults_together_give_labels(make_run: MakeRun) -> None:
    run = make_run([("pebble", 0)], tiny_task("swimmer", "noisy+mistake+skip+equal+myopic"))
    run.members[0].spec.agent(run).train()
    labels = [query.label for query in run.feedback.queries[0]]
    assert sum(label is not None for label in labels) == 8
    assert set(labels) <= {0.0, 0.5, 1.0, None}
