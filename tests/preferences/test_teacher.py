"""Teachers as in B-Pref, on cases computed by hand."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from mujoco_sail.core.streams import Streams
from mujoco_sail.preferences.teacher import (
    RecentRewards,
    TeacherLabels,
    label_pairs,
    scaled_return,
)
from mujoco_sail.recipes.task import Teacher

MANY = 20_000


def teacher(**faults: float) -> Teacher:
    neutral = {
        "beta": math.inf,
        "mistake": 0.0,
        "similarity": 0.0,
        "skip": 0.0,
        "equal": 0.0,
        "myopic": 1.0,
    }
    return Teacher(**{**neutral, **faults})


def ask(
    who: Teacher,
    first: list[list[float]],
    second: list[list[float]],
    recent: float = 0.5,
    reward_range: tuple[float, float] = (0.0, 1.0),
) -> TeacherLabels:
    """Labels pairs of one member, each segment a list of rewards."""
    sides = [torch.tensor([side]) for side in (first, second)]
    pairs = [(side, torch.ones_like(side)) for side in sides]
    streams = Streams([0], "teacher", torch.device("cpu"))
    measure = RecentRewards.of([torch.tensor([recent])], reward_range[0])
    return label_pairs(who, reward_range, pairs[0], pairs[1], measure, streams)


def many(who: Teacher, first: float, second: float) -> Tensor:
    """Labels of many copies of a one-step pair."""
    return ask(who, [[first]] * MANY, [[second]] * MANY).label[0]


def within_binomial_bounds(share: float, probability: float) -> bool:
    return abs(share - probability) < 4.5 * math.sqrt(probability * (1 - probability) / MANY)


def test_the_oracle_prefers_the_larger_return_and_calls_exact_ties() -> None:
    said = ask(teacher(), [[1, 0], [0, 0.5], [1, 1]], [[0, 0.5], [1, 0], [1, 1]])
    assert said.label.tolist() == [[1.0, 0.0, 0.5]]
    assert said.answered.all()


def test_the_noisy_teacher_follows_bradley_terry() -> None:
    """A margin of one unit, the root mean square margin, at beta 1: sigmoid(1) = 0.7311."""
    share = many(teacher(beta=1.0), 0.75, 0.25).mean().item()
    assert within_binomial_bounds(share, 0.7310586)


def test_beta_means_the_same_whatever_the_scale_of_the_rewards() -> None:
    scaled = ask(
        teacher(beta=1.0), [[75.0 - 50]] * MANY, [[25.0 - 50]] * MANY, reward_range=(-50.0, 50.0)
    )
    assert torch.equal(scaled.label[0], many(teacher(beta=1.0), 0.75, 0.25))


def test_the_mistaken_teacher_flips_at_its_rate() -> None:
    share = many(teacher(mistake=0.1), 0.25, 0.75).mean().item()
    assert within_binomial_bounds(share, 0.1)


def test_mistakes_compose_with_noise() -> None:
    """0.9 * 0.7311 + 0.1 * 0.2689."""
    share = many(teacher(beta=1.0, mistake=0.1), 0.75, 0.25).mean().item()
    assert within_binomial_bounds(share, 0.9 * 0.7310586 + 0.1 * 0.2689414)


def test_skip_refuses_pairs_whose_better_segment_is_below_the_threshold() -> None:
    """Recent mean 0.5 per step, two steps: return 1.0, so the threshold at 0.1 is 0.1."""
    first = [[0.05, 0.04], [0.05, 0.06], [0.0, 0.0]]
    second = [[0.0, 0.0], [0.0, 0.0], [0.2, 0.0]]
    assert ask(teacher(skip=0.1), first, second).answered.tolist() == [[False, True, True]]


def test_equal_calls_a_tie_below_its_threshold_only() -> None:
    """The same threshold, 0.1: differences of 0.09 and 0.11."""
    said = ask(teacher(equal=0.1), [[0.5, 0.09], [0.5, 0.11]], [[0.5, 0.0], [0.5, 0.0]])
    assert said.label.tolist() == [[0.5, 1.0]]


def test_equal_has_priority_over_mistakes() -> None:
    said = ask(teacher(equal=0.1, mistake=1.0), [[0.52], [0.9]], [[0.5], [0.1]])
    assert said.label.tolist() == [[0.5, 0.0]]


def test_the_myopic_teacher_discounts_early_steps() -> None:
    """1 * 0.9 = 0.9 early against 0.95 late; the plain sums say the opposite."""
    pair = [[1.0, 0.0]], [[0.0, 0.95]]
    assert ask(teacher(myopic=0.9), *pair).label.item() == 0.0
    assert ask(teacher(), *pair).label.item() == 1.0


def test_the_myopic_discount_counts_back_from_the_last_valid_step() -> None:
    reward = torch.tensor([[[1.0, 1.0, 7.0]]])
    valid = torch.tensor([[[1.0, 1.0, 0.0]]])
    assert scaled_return(reward, valid, 2.0, 0.5).item() == 0.75


def test_the_length_of_a_segment_does_not_decide() -> None:
    """Returns -5 of 50 steps and 1 of 10, whatever the range of rewards."""
    rewards = torch.zeros(2, 50)
    rewards[0], rewards[1, :10] = -0.1, 0.1
    valid = torch.ones(2, 50)
    valid[1, 10:] = 0
    first, second = ((rewards[row].view(1, 1, -1), valid[row].view(1, 1, -1)) for row in (0, 1))
    streams = Streams([0], "teacher", torch.device("cpu"))
    for reward_range in ((0.0, 1.0), (-0.4, 5.0), (0.5, 1.0)):
        recent = RecentRewards.of([rewards.flatten()], reward_range[0])
        for sides, label in (((first, second), 0.0), ((second, first), 1.0)):
            given = label_pairs(teacher(), reward_range, *sides, recent, streams)
            assert given.label.item() == label
