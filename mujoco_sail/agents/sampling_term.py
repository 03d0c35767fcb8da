"""T2, SAIL's gradient through the sampling distribution, during one fit of the reward.

    T2 = E[ (log P_nu(y) - b) sum_i grad log p(sigma_i; pi_nu) ]

The factor log P_nu(y) - b is computed once, before the fit, when its pairs are still unseen; while
the networks move, only the score's gradient follows them.

Source: SAIL (Ding et al. 2024, arXiv 2406.15567), section 4.
"""

import functools
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from mujoco_sail.core.distributions import SquashedGaussian
from mujoco_sail.core.networks import StackedMLP
from mujoco_sail.core.objectives import leave_one_out, reward_advantage
from mujoco_sail.core.streams import Streams
from mujoco_sail.preferences.sessions import Pairs

# "share": of the norm of T1's gradient; "exact": of the weight of T2 in SAIL's objective, see
# `objectives.exact_t2_weight`; "fixed": of the surrogate itself.
Unit = Literal["share", "exact", "fixed"]
# What the factor log P - b is replaced by, for comparisons: "permuted" exchanges it between pairs,
# so that a gradient of equal norm holds no signal; "reversed" changes its sign.
Control = Literal["none", "permuted", "reversed"]

# Draws of the policy's actions with which norms are measured, of T2 and of each of its halves.
DRAWS, DRAWS_OF_HALVES = 16, 4

Rewards = Callable[[Tensor], Tensor]  # `RewardModel.rewards`


@dataclass(frozen=True)
class SamplingTerm:
    """An estimate of T2 from pairs of the policy's segments.

    Attributes:
        pairs: P pairs.
        pi: The policy at their observations, its numbers [M, P, 2, T, A].
        factor: What the scores are multiplied with, [M, E, P]; a constant.
    """

    pairs: Pairs
    pi: SquashedGaussian
    factor: Tensor

    def noise(self, streams: Streams) -> Tensor:
        """Standard normal numbers for one action at every observation."""
        return streams.normal(*self.pi.mean.shape[1:])

    def surrogate(self, rewards: Rewards, noise: Tensor) -> Tensor:
        """Function of the reward networks whose gradient estimates T2 / weight, [M, E].

        Args:
            rewards: Of every network for inputs [M, 1, ..., O + A].
            noise: See `noise`.
        """
        return (self.factor * self.scores(rewards, noise)).mean(-1)

    def scores(self, rewards: Rewards, noise: Tensor) -> Tensor:
        """sum_i 1/T sum_t ( r_nu(s_t, a_t) - r_nu(s_t, a'_t) ), a' ~ pi, [M, E, P]."""
        inputs = self.pairs.inputs
        observation = inputs[..., : inputs.shape[-1] - noise.shape[-1]]
        by_policy = torch.cat([observation, self.pi.action(noise)], -1)
        # Both kinds of actions in one call: [M, E, 2, P, 2, T].
        own, drawn = rewards(torch.stack([inputs, by_policy], 1).unsqueeze(1)).unbind(2)
        return reward_advantage(own, drawn, self.pairs.valid.unsqueeze(1)).sum(-1)

    def part(self, at: slice, factor: Tensor) -> "SamplingTerm":
        """The same of some pairs, with a factor of their own."""
        pi = SquashedGaussian(self.pi.mean[:, at], self.pi.log_std[:, at])
        return replace(self, pairs=self.pairs.part(at), pi=pi, factor=factor)

    def gradient(
        self, net: StackedMLP, rewards: Rewards, streams: Streams, draws: int
    ) -> list[Tensor]:
        """Mean gradient of the surrogate over draws of the policy's actions, see `gradient_of`."""
        total = [torch.zeros_like(layer) for layer in net.layers]
        for _ in range(draws):
            of_draw = gradient_of(self.surrogate(rewards, self.noise(streams)), net)
            total = [sum_ + g / draws for sum_, g in zip(total, of_draw, strict=True)]
        return total


def centred(log_p: Tensor, control: Control, streams: Streams) -> Tensor:
    """The factor log P_nu(y) - b, or a control in its place, [M, E, P].

    Args:
        log_p: [M, E, P].
        control: See `Control`.
        streams: Source of the permutations, one per member.
    """
    factor = log_p - leave_one_out(log_p)
    if control == "permuted":
        order = streams.uniform(1, factor.shape[-1]).argsort(-1)
        factor = factor.gather(-1, order.expand_as(factor))
    return -factor if control == "reversed" else factor


def gradient_of(objective: Tensor, net: StackedMLP) -> list[Tensor]:
    """Gradient of objectives [M, E], each with respect to its own network, as `net.layers`."""
    gradients = torch.autograd.grad(objective.sum(), net.parameters)
    return [g.flatten(0, 1) for g in gradients]


def inner(one: list[Tensor], other: list[Tensor], networks: int) -> Tensor:
    """Inner products of the gradients of every network, [M, E]."""
    products = [(a * b).sum(-1).sum(1) for a, b in zip(one, other, strict=True)]
    return in_order(products).view(-1, networks)


def in_order(terms: Iterable[Tensor]) -> Tensor:
    """Sum of tensors one by one; the order of PyTorch's own sum depends on their size."""
    return functools.reduce(torch.add, terms)


def halves(count: int) -> tuple[slice, slice]:
    """Two disjoint halves of P pairs; an odd one is in the second."""
    return slice(0, count // 2), slice(count // 2, count)
