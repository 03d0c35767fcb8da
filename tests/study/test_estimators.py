"""Each estimate of T2 has the stated derivative as its expectation: everything is enumerated."""

from __future__ import annotations

import itertools

import estimators
import pytest
import torch
from torch import Tensor

ALPHA, ACTIONS = 0.7, 4
GENERATOR = torch.Generator().manual_seed(0)
FEATURES = torch.randn(ACTIONS, 3, generator=GENERATOR, dtype=torch.float64)
NU = torch.randn(3, generator=GENERATOR, dtype=torch.float64)
ORACLE = torch.rand(ACTIONS, ACTIONS, generator=GENERATOR, dtype=torch.float64)
TASK = torch.tensor([0.3, -1.0, 2.0, 0.3], dtype=torch.float64)  # with a tie


def reward(nu: Tensor) -> Tensor:
    return torch.tanh(FEATURES @ nu)


def log_policy(nu: Tensor) -> Tensor:
    return torch.log_softmax(reward(nu) / ALPHA, 0)


def derivative(value_of_pair: Tensor) -> Tensor:
    """Derivative through pi_nu alone of E_{a1, a2 ~ pi_nu}[ value ], value [A, A] a constant."""
    nu = NU.clone().requires_grad_()
    pi = log_policy(nu).exp()
    expectation = (pi[:, None] * pi[None, :] * value_of_pair).sum()
    return torch.autograd.grad(expectation, nu)[0]


def expected_estimate(
    segments: Tensor, probability: Tensor, factor: Tensor, scored: Tensor
) -> Tensor:
    """Sum of probability times the mean of factor times grad score, over all samples.

    Args:
        segments: Actions of a sample, for the chance that pi_nu draws them, [S, ...].
        probability: Of what else is drawn, [S].
        factor: [S, P].
        scored: Actions whose log pi_nu the factor multiplies, [S, P, ...].
    """
    nu = NU.clone().requires_grad_()
    log_pi = log_policy(nu)
    chance = probability * log_pi.detach().exp()[segments].flatten(1).prod(1)
    score = log_pi[scored].flatten(2).sum(-1)
    return torch.autograd.grad((chance[:, None] * factor * score).mean(1).sum(), nu)[0]


def two_pairs() -> tuple[Tensor, Tensor, Tensor]:
    """All samples of two labelled pairs: actions [S, 2, 2], labels [S, 2], chance of labels [S]."""
    pairs = itertools.product(range(ACTIONS), repeat=4)
    samples = torch.tensor([(*p, *y) for p in pairs for y in itertools.product((0, 1), repeat=2)])
    actions, label = samples[:, :4].view(-1, 2, 2), samples[:, 4:].double()
    prefers = ORACLE[actions[..., 0], actions[..., 1]]
    return actions, label, (label * prefers + (1 - label) * (1 - prefers)).prod(1)


def margins(actions: Tensor) -> Tensor:
    r = reward(NU)[actions]
    return r[..., 0] - r[..., 1]


def log_p(actions_1: Tensor, actions_2: Tensor, label: Tensor) -> Tensor:
    p = torch.sigmoid(reward(NU)[actions_1] - reward(NU)[actions_2])
    return label * p.log() + (1 - label) * (1 - p).log()


GRID = torch.meshgrid(torch.arange(ACTIONS), torch.arange(ACTIONS), indexing="ij")
OF_LABELS = ORACLE * log_p(*GRID, torch.tensor(1.0)) + (1 - ORACLE) * log_p(
    *GRID, torch.tensor(0.0)
)
P = torch.sigmoid(reward(NU)[:, None] - reward(NU)[None, :])
ENTROPY = -(P * P.log() + (1 - P) * (1 - P).log())


def estimate(factor: Tensor) -> Tensor:
    actions, _, chance = two_pairs()
    return expected_estimate(actions, chance, factor, actions)


def by_labels() -> Tensor:
    actions, label, _ = two_pairs()
    return estimate(estimators.by_labels(margins(actions)[:, None], label)[:, 0])


def by_model() -> Tensor:
    return estimate(estimators.by_model(margins(two_pairs()[0])))


def corrected() -> Tensor:
    actions, label, _ = two_pairs()
    beyond = estimators.correction(margins(actions)[:, None], label)[:, 0]
    return by_model() + estimate(beyond)


def by_all_pairs() -> Tensor:
    alone = torch.tensor(list(itertools.product(range(ACTIONS), repeat=3)))  # [S, N]
    factor = estimators.by_all_pairs(reward(NU)[alone][:, None], TASK[alone])[:, 0]
    certain = torch.ones(len(alone), dtype=torch.float64)
    return expected_estimate(alone, certain, factor, alone[..., None])


PERFECT = 0.5 * (1 + (TASK[:, None] - TASK[None, :]).sign())


@pytest.mark.parametrize(
    ("expected", "stated"),
    [
        (by_labels, OF_LABELS),
        (by_model, -ENTROPY),
        (corrected, OF_LABELS),
        (by_all_pairs, log_p(*GRID, PERFECT)),
    ],
)
def test_the_expectation_is_the_derivative_through_the_sampling_distribution(
    expected: object, stated: Tensor
) -> None:
    exact = derivative(stated)
    torch.testing.assert_close(expected(), exact, rtol=1e-12, atol=1e-14)  # type: ignore[operator]
    assert exact.norm() > 1e-3


def test_the_models_own_labels_are_not_sails_term() -> None:
    exact = derivative(OF_LABELS)
    assert (by_model() - exact).norm() > 0.1 * exact.norm()
