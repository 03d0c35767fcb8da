"""Estimator of T2, SAIL's gradient through the sampling distribution, for a fit of the reward.

    T2 = E[ (log P_nu(y) - b) sum_i grad log p(sigma_i; pi_nu) ]

This module estimates the term divided by its exact weight T / (E alpha), see
`objectives.exact_t2_weight`; the agents call that T2. The fit adds w T2, which is the term itself
for w = T / (E alpha).
The factor log P_nu(y) - b is computed once before the fit, when the networks have not been trained
on its pairs. During the fit, only the gradient of the score is recomputed.

Source: SAIL (Ding et al. 2024, arXiv 2406.15567), section 4.
"""

import functools
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from mujoco_sail.agents.reward_model import gradient_of
from mujoco_sail.core.distributions import SquashedGaussian
from mujoco_sail.core.networks import StackedMLP
from mujoco_sail.core.objectives import leave_one_out, reward_advantage
from mujoco_sail.core.streams import Streams
from mujoco_sail.preferences.pairs import Pairs

# Unit of lambda. "share": |T1| / |T2|, so that lambda is the share of T2; "exact": the weight of
# T2 in SAIL's objective, see `objectives.exact_t2_weight`; "fixed": 1.
Unit = Literal["share", "exact", "fixed"]
# Replacement of the factor log P - b, for control experiments. "permuted" permutes it among the
# pairs of a session, of which there must be several, so that T2 has no signal; "reversed" changes
# its sign. In the unit "share" T2 has the same norm in the fit with either.
Control = Literal["none", "permuted", "reversed"]

# Number of draws of the policy's actions for the norms of T2 and of the estimates from its halves.
DRAWS, DRAWS_OF_HALVES = 16, 4

Rewards = Callable[[Tensor], Tensor]  # `RewardModel.rewards`


@dataclass(frozen=True)
class SamplingTerm:
    """Estimator of T2 from pairs of segments of the policy.

    Attributes:
        pairs: P pairs.
        pi: Policy at their observations, with parameters [M, P, 2, T, A].
        factor: Constant factor of the scores, [M, E, P].
    """

    pairs: Pairs
    pi: SquashedGaussian
    factor: Tensor

    def noise(self, streams: Streams) -> Tensor:
        """Standard normal noise for one action at every observation, [M, P, 2, T, A]."""
        return streams.normal(*self.pi.mean.shape[1:])

    def surrogate(self, rewards: Rewards, noise: Tensor) -> Tensor:
        """Surrogate whose gradient with respect to the reward networks estimates T2.

        Args:
            rewards: Function for the rewards of every network, for inputs [M, 1, ..., O + A].
            noise: Noise of the policy's actions, from `noise`.

        Returns:
            Surrogate of every network, [M, E].
        """
        return (self.factor * self.scores(rewards, noise)).mean(-1)

    def scores(self, rewards: Rewards, noise: Tensor) -> Tensor:
        """Scores sum_i 1/T sum_t ( r_nu(s_t, a_t) - r_nu(s_t, a'_t) ), a' ~ pi, [M, E, P]."""
        inputs = self.pairs.inputs
        observation = inputs[..., : inputs.shape[-1] - noise.shape[-1]]
        by_policy = torch.cat([observation, self.pi.action(noise)], -1)
        # Both kinds of actions in one call: [M, E, 2, P, 2, T].
        own, drawn = rewards(torch.stack([inputs, by_policy], 1).unsqueeze(1)).unbind(2)
        return reward_advantage(own, drawn, self.pairs.valid.unsqueeze(1)).sum(-1)

    def part(self, at: slice, factor: Tensor) -> "SamplingTerm":
        """Estimator from a slice of the pairs, with another factor."""
        pi = SquashedGaussian(self.pi.mean[:, at], self.pi.log_std[:, at])
        return replace(self, pairs=self.pairs.part(at), pi=pi, factor=factor)

    def gradient(
        self, net: StackedMLP, rewards: Rewards, streams: Streams, draws: int
    ) -> list[Tensor]:
        """Mean gradient of the surrogate over `draws` draws of the policy's actions."""
        total = [torch.zeros_like(layer) for layer in net.layers]
        for _ in range(draws):
            grad = gradient_of(self.surrogate(rewards, self.noise(streams)), net)
            total = [sum_ + g / draws for sum_, g in zip(total, grad, strict=True)]
        return total


def centred(log_p: Tensor, control: Control, streams: Streams) -> Tensor:
    """Factor log P_nu(y) - b or its control, [M, E, P].

    Args:
        log_p: Log-likelihoods, [M, E, P].
        control: Control experiment, see `Control`.
        streams: Random streams of the permutations, one permutation per member.
    """
    factor = log_p - leave_one_out(log_p)
    if control == "permuted":
        order = streams.uniform(1, factor.shape[-1]).argsort(-1)
        factor = factor.gather(-1, order.expand_as(factor))
    return -factor if control == "reversed" else factor


def inner(one: list[Tensor], other: list[Tensor], networks: int) -> Tensor:
    """Inner product of two gradients for every network, [M, E]."""
    products = [(a * b).sum(-1).sum(1) for a, b in zip(one, other, strict=True)]
    return ordered_sum(products).view(-1, networks)


def ordered_sum(terms: Iterable[Tensor]) -> Tensor:
    """Sum of tensors in order; the order in PyTorch's own sum depends on their size."""
    return functools.reduce(torch.add, terms)


def halves(count: int) -> tuple[slice, slice]:
    """Slices of two disjoint halves of P pairs; if P is odd, the second is larger."""
    return slice(0, count // 2), slice(count // 2, count)
