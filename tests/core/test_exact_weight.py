"""With the exact weight, T1 + T2 is the derivative of SAIL's objective for an ensemble.

The problem has two steps whose actions do not influence the next state, so that the truncation at
one step is exact. The policy is optimal for the mean of two reward networks, at a temperature that
is not 1.
"""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

from mujoco_sail.core.objectives import exact_t2_weight, reward_advantage, t1_t2_surrogates

ALPHA, STEPS, ACTIONS, NETWORKS, FEATURES = 0.6, 2, 3, 2, 4
GENERATOR = torch.Generator().manual_seed(0)
PHI = torch.randn(STEPS, ACTIONS, FEATURES, generator=GENERATOR, dtype=torch.float64)
NU = torch.randn(NETWORKS, FEATURES, generator=GENERATOR, dtype=torch.float64)
SEGMENTS = torch.tensor(list(itertools.product(range(ACTIONS), repeat=STEPS)))  # [S, T]
PREFERS_FIRST = torch.rand(2 * [len(SEGMENTS)], generator=GENERATOR, dtype=torch.float64)


def rewards(nu: Tensor) -> Tensor:
    """r_e(t, a), [E, T, A]."""
    return torch.tanh(torch.einsum("taf,ef->eta", PHI, nu))


def objective(nu: Tensor) -> Tensor:
    """J_e of both networks, [E], written without the core."""
    r = rewards(nu)
    log_pi = torch.log_softmax(r.mean(0) / ALPHA, -1)
    log_p_segment = sum(log_pi[t, SEGMENTS[:, t]] for t in range(STEPS))
    returns = sum(r[:, t, SEGMENTS[:, t]] for t in range(STEPS))
    p = torch.sigmoid(returns[:, :, None] - returns[:, None, :])
    inner = PREFERS_FIRST * torch.log(p) + (1 - PREFERS_FIRST) * torch.log(1 - p)
    drawn = torch.exp(log_p_segment[:, None] + log_p_segment[None, :])
    return (drawn * inner).sum((1, 2))


def derivative(nu: Tensor) -> Tensor:
    """dJ_e / dnu_e, [E, F]."""
    gradients = [torch.autograd.grad(objective(nu)[e], nu)[0][e] for e in range(NETWORKS)]
    return torch.stack(gradients)


def gradient_by_terms(nu: Tensor, weight: float | Tensor, segments: tuple[int, ...]) -> Tensor:
    """T1 + weight T2 of the core, every pair and label weighted by its probability."""
    r = rewards(nu)
    pi = torch.softmax(r.detach().mean(0) / ALPHA, -1)
    count = len(SEGMENTS)
    pair = torch.tensor(list(itertools.product(range(count), repeat=2)))  # [P, 2]
    steps = torch.arange(STEPS)
    probability = pi[steps, SEGMENTS].prod(-1)[pair].prod(-1)
    own = r[:, steps, SEGMENTS][:, pair]  # [E, P, 2, T]
    drawn = (pi * r).sum(-1)[:, None, None].expand_as(own)
    advantage = reward_advantage(own, drawn, torch.ones_like(own))
    score = weight * advantage[..., list(segments)].sum(-1)
    margin = own.sum(-1)[..., 0] - own.sum(-1)[..., 1]
    prefers = PREFERS_FIRST[pair[:, 0], pair[:, 1]]
    total = torch.zeros(())
    for label, chance in ((1.0, prefers), (0.0, 1 - prefers)):
        t1, t2 = t1_t2_surrogates(margin, torch.tensor(label).double(), score, torch.tensor(-0.4))
        total = total + (probability * chance * (t1 + t2)).sum()
    return torch.autograd.grad(total, nu)[0]


def relative_error(weight: float | Tensor, segments: tuple[int, ...] = (0, 1)) -> float:
    nu = NU.clone().requires_grad_()
    exact = derivative(nu)
    return float((gradient_by_terms(nu, weight, segments) - exact).norm() / exact.norm())


def test_t1_and_t2_with_the_exact_weight_are_the_derivative_of_the_enumerated_objective() -> None:
    assert (
        relative_error(exact_t2_weight(STEPS, NETWORKS, torch.tensor(ALPHA, dtype=torch.float64)))
        < 1e-12
    )


@pytest.mark.parametrize(
    ("weight", "segments"),
    [
        (1 / (NETWORKS * ALPHA), (0, 1)),
        (STEPS / ALPHA, (0, 1)),
        (STEPS / NETWORKS, (0, 1)),
        (STEPS / (NETWORKS * ALPHA), (0,)),
        (0.0, (0, 1)),
    ],
    ids=["steps left out", "networks left out", "alpha left out", "one segment", "no T2"],
)
def test_a_weight_without_one_of_its_factors_does_not_give_the_derivative(
    weight: float, segments: tuple[int, ...]
) -> None:
    assert relative_error(weight, segments) > 0.02
