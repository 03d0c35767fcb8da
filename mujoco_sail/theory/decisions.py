"""Finite-horizon decision problems with their soft-optimal policies.

    Q_t(s, a) = r(s, a) + E_{s' ~ P(.|s, a)} V_{t+1}(s'),     V_H = 0
    V_t(s)    = alpha log sum_a exp(Q_t(s, a) / alpha)
    pi_t(a|s) = exp((Q_t(s, a) - V_t(s)) / alpha)

    grad Q_t(s, a) = grad r(s, a) + E_{s'} E_{a' ~ pi_{t+1}} grad Q_{t+1}(s', a')
    grad log pi_t(a|s) = (grad Q_t(s, a) - E_{a' ~ pi_t} grad Q_t(s, a')) / alpha

The parameters nu are the rewards themselves, so that grad r(s, a) is a unit vector.

Source: the reward-policy equivalence of SAIL (arXiv 2406.15567).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from mujoco_sail.core.streams import seed_for


class Condition(NamedTuple):
    """Parameters that are varied over copies of a problem.

    Attributes:
        temperature: alpha, in units of the standard deviation of a step's reward.
        randomness: Weight of random transitions in [0, 1]; 0 makes all deterministic.
    """

    temperature: float
    randomness: float


@dataclass(frozen=True)
class Decisions:
    """S problems under C conditions each; the initial state is uniform.

    Attributes:
        reward: nu, [S, Z, A].
        truth: Reward that the oracle sees, [S, Z, A].
        transitions: P(s'|s, a), [S, C, Z, A, Z].
        temperature: alpha, [C].
        horizon: H, the steps of an episode and of a segment.
    """

    reward: Tensor
    truth: Tensor
    transitions: Tensor
    temperature: Tensor
    horizon: int

    def policy(self) -> Tensor:
        """pi_nu, [S, C, H, Z, A], differentiable in the reward."""
        alpha = self.temperature[:, None, None]
        value = self.reward.new_zeros(self.transitions.shape[:3])
        steps = []
        for _ in range(self.horizon):
            q = self.reward[:, None] + torch.einsum("sczay,scy->scza", self.transitions, value)
            value = alpha[..., 0] * torch.logsumexp(q / alpha, -1)
            steps.append(((q - value[..., None]) / alpha).exp())
        return torch.stack(steps[::-1], 2)

    def q_gradients(self, policy: Tensor, steps: int) -> Tensor:
        """Gradient of Q_t(s, a), truncated after the rewards of `steps` steps, [S, C, H, Z, A, D].

        The expectation is over rollouts of the policy that are independent of any segment. It is
        exact if `steps` = H.
        """
        states, actions = policy.shape[-2:]
        unit = torch.eye(states * actions, dtype=policy.dtype).view(states, actions, -1)
        unit = unit.expand(*policy.shape[:2], -1, -1, -1)
        gradients = []
        for t in range(self.horizon):
            gradient = unit
            for k in range(min(t + steps, self.horizon) - 1, t, -1):
                value = expected(policy[:, :, k], gradient)
                gradient = unit + torch.einsum("sczay,scyd->sczad", self.transitions, value)
            gradients.append(gradient)
        return torch.stack(gradients, 2)

    def scores(self, policy: Tensor, gradient: Tensor) -> Tensor:
        """Gradient of log pi_t(a|s), given the gradient of Q, both [S, C, H, Z, A, D]."""
        advantage = gradient - expected(policy, gradient).unsqueeze(-2)
        return advantage / self.temperature.view(-1, 1, 1, 1, 1)


def expected(policy: Tensor, gradient: Tensor) -> Tensor:
    """Expectation over actions, [..., Z, D], of gradients [..., Z, A, D], policy [..., Z, A]."""
    return (policy[..., None] * gradient).sum(-2)


def draw(
    seeds: Sequence[int],
    states: int,
    actions: int,
    horizon: int,
    agreement: float,
    conditions: Sequence[Condition],
) -> Decisions:
    """Draws one random problem per seed, which depends only on the seed and the sizes.

    True rewards are standard normal, and nu = c truth + sqrt(1 - c^2) noise has correlation c
    with them (the agreement). Transitions are (1 - m) times a uniformly drawn successor plus m
    times a draw from Dirichlet(1, ..., 1), where m is the randomness.
    """
    rewards, truths, fixed, mixed = [], [], [], []
    for seed in seeds:
        generator = torch.Generator().manual_seed(seed_for(seed, "decisions"))
        truth, noise = torch.randn(2, states, actions, generator=generator, dtype=torch.float64)
        successor = torch.randint(states, (states, actions), generator=generator)
        uniform = torch.rand(states, actions, states, generator=generator, dtype=torch.float64)
        exponential = -torch.log1p(-uniform)
        rewards.append(agreement * truth + (1 - agreement**2) ** 0.5 * noise)
        truths.append(truth)
        fixed.append(torch.nn.functional.one_hot(successor, states).double())
        mixed.append(exponential / exponential.sum(-1, keepdim=True))
    temperature, randomness = torch.tensor(conditions, dtype=torch.float64).unbind(-1)
    weight = randomness.view(-1, 1, 1, 1)
    transitions = (1 - weight) * torch.stack(fixed)[:, None] + weight * torch.stack(mixed)[:, None]
    return Decisions(torch.stack(rewards), torch.stack(truths), transitions, temperature, horizon)
