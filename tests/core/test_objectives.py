"""Gradients of the objectives, compared with the enumerated or numerical derivatives."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.distributions import Independent, Normal, TanhTransform, TransformedDistribution
from torch.distributions import kl_divergence as library_kl

from mujoco_sail.core.distributions import SquashedGaussian
from mujoco_sail.core.objectives import (
    gaussian_kl,
    leave_one_out,
    log_likelihood,
    reward_advantage,
    t1_t2_surrogates,
)

ALPHA = 0.7
ACTIONS = 5


def one_step_problem() -> tuple[Tensor, Tensor, Tensor]:
    """Parameters nu of r_nu(a) = tanh(features nu), features, P(oracle prefers a1 to a2)."""
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(ACTIONS, 4, generator=generator, dtype=torch.float64)
    nu = torch.randn(4, generator=generator, dtype=torch.float64).requires_grad_()
    oracle = torch.rand(ACTIONS, ACTIONS, generator=generator, dtype=torch.float64)
    return nu, features, oracle


def enumerated_objective(nu: Tensor, features: Tensor, oracle: Tensor) -> Tensor:
    """J(nu), summed over both actions and both labels, written without the core."""
    r = torch.tanh(features @ nu)
    pi = torch.softmax(r / ALPHA, 0)
    p = torch.sigmoid(r[:, None] - r[None, :])
    inner = oracle * torch.log(p) + (1 - oracle) * torch.log(1 - p)
    return (pi[:, None] * pi[None, :] * inner).sum()


def core_gradient(
    nu: Tensor, features: Tensor, oracle: Tensor, t2_weight: float, baseline: float = 0.0
) -> Tensor:
    """The core's T1 and T2, each result weighted by its probability."""
    r = torch.tanh(features @ nu)
    pi = torch.softmax(r / ALPHA, 0).detach()
    first, second = torch.meshgrid(torch.arange(ACTIONS), torch.arange(ACTIONS), indexing="ij")
    weight = (pi[first] * pi[second]).flatten()
    weight = torch.cat([weight * oracle.flatten(), weight * (1 - oracle).flatten()])
    label = torch.cat([torch.ones(ACTIONS**2), torch.zeros(ACTIONS**2)]).double()
    pair = torch.stack([first.flatten(), second.flatten()], -1).repeat(2, 1)  # [P, 2]
    rewards = r[pair].unsqueeze(-1)  # [P, 2, T = 1]
    expected = (pi * r).sum().expand_as(rewards)
    score = reward_advantage(rewards, expected, torch.ones_like(rewards)).sum(-1) / ALPHA
    margin = r[pair[:, 0]] - r[pair[:, 1]]
    t1, t2 = t1_t2_surrogates(margin, label, score, torch.tensor(baseline))
    return torch.autograd.grad((weight * (t1 + t2_weight * t2)).sum(), nu)[0]


@pytest.mark.parametrize("baseline", [0.0, -0.6])
def test_t1_plus_t2_is_the_derivative_of_the_enumerated_objective(baseline: float) -> None:
    nu, features, oracle = one_step_problem()
    exact = torch.autograd.grad(enumerated_objective(nu, features, oracle), nu)[0]
    torch.testing.assert_close(
        core_gradient(nu, features, oracle, 1.0, baseline), exact, rtol=1e-10, atol=1e-12
    )


@pytest.mark.parametrize("t2_weight", [0.0, -1.0, 1.01])
def test_another_weight_of_t2_does_not_give_the_derivative(t2_weight: float) -> None:
    nu, features, oracle = one_step_problem()
    exact = torch.autograd.grad(enumerated_objective(nu, features, oracle), nu)[0]
    error = core_gradient(nu, features, oracle, t2_weight) - exact
    assert error.norm() > 1e-3 * exact.norm()


def test_the_value_of_t1_is_the_log_likelihood_and_a_tie_weighs_both_sides() -> None:
    margin = torch.tensor([2.0, 2.0, 2.0])
    expected = torch.tensor([-0.126928, -2.126928, -1.126928])
    torch.testing.assert_close(
        log_likelihood(margin, torch.tensor([1.0, 0.0, 0.5])), expected, rtol=0, atol=1e-6
    )


def test_the_baseline_leaves_its_own_sample_out() -> None:
    torch.testing.assert_close(
        leave_one_out(torch.tensor([1.0, 2.0, 6.0])), torch.tensor([4.0, 3.5, 1.5])
    )
    assert leave_one_out(torch.tensor([[3.0], [5.0]])).tolist() == [[0.0], [0.0]]


def test_padding_does_not_enter_the_reward_advantage() -> None:
    reward = torch.tensor([[1.0, 2.0, 99.0]])
    valid = torch.tensor([[1.0, 1.0, 0.0]])
    assert reward_advantage(reward, torch.zeros(1, 3), valid).item() == 1.0


def test_the_gaussian_kl_equals_pytorchs_in_the_stated_direction() -> None:
    mean, log_std, reference_mean, reference_log_std = torch.randn(
        4, 3, 7, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64
    )
    ours = gaussian_kl(reference_mean, reference_log_std, mean, log_std)
    reference = Independent(Normal(reference_mean, reference_log_std.exp()), 1)
    policy = Independent(Normal(mean, log_std.exp()), 1)
    torch.testing.assert_close(ours, library_kl(reference, policy), rtol=1e-12, atol=1e-12)
    assert not torch.allclose(ours, library_kl(policy, reference))


def test_the_squashed_log_density_equals_pytorchs() -> None:
    mean, log_std, noise = torch.randn(
        3, 4, 5, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64
    )
    pi = SquashedGaussian(mean, log_std)
    action, log_prob = pi.action_and_log_prob(noise)
    library = TransformedDistribution(
        Independent(Normal(mean, log_std.exp()), 1), [TanhTransform(cache_size=1)]
    )
    torch.testing.assert_close(log_prob, library.log_prob(action), rtol=1e-7, atol=1e-7)
    torch.testing.assert_close(pi.log_prob(action), log_prob, rtol=1e-9, atol=1e-9)
