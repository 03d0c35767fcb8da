"""The learned reward: an ensemble of networks that is fitted to preferences.

    R_nu(sigma) = sum_t r_nu(s_t, a_t)
    P_nu(sigma_1 > sigma_2) = sigmoid(R_nu(sigma_1) - R_nu(sigma_2))

Source: PEBBLE (Lee et al. 2021, arXiv 2106.05091), section 3.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from mujoco_sail.core.memberwise import memberwise
from mujoco_sail.core.networks import StackedMLP
from mujoco_sail.core.objectives import log_likelihood
from mujoco_sail.core.optimiser import MemberAdam
from mujoco_sail.core.state import Tree, capture, restore
from mujoco_sail.core.streams import Streams
from mujoco_sail.preferences.sessions import Pairs
from mujoco_sail.recipes.task import Task

# Rewards of a batch of pairs and their validity, both [M, E, B, 2, T], and the labels, [M, E, B],
# to log P_nu(y), [M, E, B].
Likelihood = Callable[[Tensor, Tensor, Tensor], Tensor]
# The number of pairs in a batch to a value of every network, [M, E].
Term = Callable[[int], Tensor]


def whole_segments(rewards: Tensor, valid: Tensor, label: Tensor) -> Tensor:
    """Log P_nu(y) of pairs of whole segments, see `Likelihood`."""
    return log_likelihood(margin(rewards, valid), label)


@dataclass(frozen=True)
class Objective:
    """What one fit maximises: the mean of log P_nu(y) over the labels, plus terms.

    An agent makes one for every label session; what belongs to that fit alone, such as random
    streams, is bound in these functions.

    Attributes:
        likelihood: log P_nu(y) of labelled pairs.
        terms: What is added, in this order.
    """

    likelihood: Likelihood = whole_segments
    terms: tuple[Term, ...] = ()

    def plus(self, term: Term) -> "Objective":
        """The same with one more term."""
        return replace(self, terms=(*self.terms, term))

    def value(self, log_p: Tensor) -> Tensor:
        """The objective of every network, [M, E], from the likelihoods of a batch, [M, E, B]."""
        total = log_p.mean(-1)
        for term in self.terms:
            total = total + term(log_p.shape[-1])
        return total


class Fitted(NamedTuple):
    """How a fit went: of each member in its last epoch, [M]; accuracy is NaN if all are ties."""

    loss: Tensor
    accuracy: Tensor


class RewardModel:
    """E reward networks of every member, with their optimiser.

    Args:
        task: Size of the networks; epochs and batch size of a fit.
        inputs: O + A.
        networks: E.
        learning_rate: Of Adam.
        streams: Source of the initial values.

    Attributes:
        net: The networks, whose output goes through tanh.
        adam: Their optimiser.
        updates: Steps of it that each member has taken, [M].
    """

    def __init__(
        self, task: Task, inputs: int, networks: int, learning_rate: float, streams: Streams
    ) -> None:
        members = len(streams.generators)
        self.task, self.networks = task, networks
        sizes = [inputs, *[task.reward_units] * task.reward_layers, 1]
        self.net = StackedMLP(sizes, networks, streams, "leaky_relu", task.precision)
        self.adam = MemberAdam(self.net.layers, members, learning_rate)
        self.updates = torch.zeros(members, device=streams.device)

    def state(self) -> Tree:
        """See `core.state`."""
        return {name: capture(getattr(self, name), name) for name in ("net", "adam", "updates")}

    def load(self, saved: Tree) -> None:
        """See `core.state`."""
        for name, value in saved.items():
            restore(getattr(self, name), value)

    # --- predictions ---

    def rewards(self, inputs: Tensor) -> Tensor:
        """r_nu of every network, [M, E, ...], for observations and actions.

        Args:
            inputs: [M, E, ..., O + A], or [M, 1, ..., O + A] where all networks get the same.
        """
        flat = torch.tanh(self.net(inputs.flatten(2, -2))).squeeze(-1)
        return flat.view(*flat.shape[:2], *inputs.shape[2:-1])

    @torch.no_grad()
    def mean(self, observation: Tensor, action: Tensor) -> Tensor:
        """Mean of r_nu over the networks, [M, B]."""
        return self.rewards(torch.cat([observation, action], -1).unsqueeze(1)).mean(1)

    @torch.no_grad()
    def margin(self, pairs: Pairs) -> Tensor:
        """R_nu(sigma_1) - R_nu(sigma_2) by every network, [M, E, P]."""
        return margin(self.rewards(pairs.inputs.unsqueeze(1)), pairs.valid.unsqueeze(1))

    def probability(self, pairs: Pairs) -> Tensor:
        """P_nu(sigma_1 > sigma_2) by every network, [M, E, P]."""
        return memberwise(torch.sigmoid, self.margin(pairs))

    def accuracy(self, pairs: Pairs, labels: Tensor) -> Tensor:
        """Share of the labels [M, P] that the networks predict, ties left out, [M]."""
        correct, strict = correct_predictions(self.margin(pairs), labels.unsqueeze(1))
        return correct.sum((1, 2)) / strict.sum((1, 2))

    # --- fitting ---

    def fit(
        self,
        pairs: Pairs,
        labels: Tensor,
        objective: Objective,
        accuracy_target: float,
        streams: Streams,
    ) -> Fitted:
        """Epochs over all labels; a member stops when it reaches the accuracy target.

        Args:
            pairs: P labelled pairs.
            labels: [M, P].
            objective: What is maximised.
            accuracy_target: Share of correct predictions of whole segments.
            streams: Source of the order of the pairs, one of its own for each network.
        """
        members, count = labels.shape
        rows = torch.arange(members, device=labels.device).view(-1, 1, 1)
        active = torch.ones(members, dtype=torch.bool, device=labels.device)
        fitted = Fitted(*torch.full((2, members), torch.nan, device=labels.device))
        for _ in range(self.task.reward_epochs):
            order = streams.uniform(self.networks, count).argsort(-1)
            loss, correct, strict = torch.zeros(3, members, device=labels.device)
            batches = torch.split(order, self.task.reward_batch_size, dim=-1)
            moving = active.tolist()
            for at in batches:
                rewards = self.rewards(pairs.inputs[rows, at])
                valid, label = pairs.valid[rows, at], labels[rows, at]
                log_p = objective.likelihood(rewards, valid, label)
                value = objective.value(log_p).sum()
                self.adam.step(torch.autograd.grad(-value, self.net.parameters), moving)
                loss -= log_p.detach().sum((1, 2)) / order[0].numel()
                right, counted = correct_predictions(margin(rewards.detach(), valid), label)
                correct += right.sum((1, 2))
                strict += counted.sum((1, 2))
            epoch = Fitted(loss, correct / strict)
            fitted = Fitted(
                *(torch.where(active, new, old) for new, old in zip(epoch, fitted, strict=True))
            )
            self.updates += active * len(batches)
            active = active & ~(epoch.accuracy >= accuracy_target)
            if not active.any():
                break
        return fitted


def margin(rewards: Tensor, valid: Tensor) -> Tensor:
    """R_nu(sigma_1) - R_nu(sigma_2), [..., P], from rewards and validity [..., P, 2, T]."""
    returns = (rewards * valid).sum(-1)
    return returns[..., 0] - returns[..., 1]


def correct_predictions(margin: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
    """Which labels the sign of a predicted margin agrees with; ties do not count.

    Args:
        margin: R(sigma_1) - R(sigma_2), [..., P].
        label: In {0, 0.5, 1}, broadcast to [..., P].

    Returns:
        Which labels are predicted, and which are no ties, both [..., P] of bool.
    """
    strict = (label != 0.5).expand_as(margin)
    return strict & ((margin > 0) == (label > 0.5)), strict
