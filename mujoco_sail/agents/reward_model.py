"""Reward model: an ensemble of networks that is fitted to preferences.

    R_nu(sigma) = sum_t r_nu(s_t, a_t)
    P_nu(sigma_1 > sigma_2) = sigmoid(R_nu(sigma_1) - R_nu(sigma_2))

Source: PEBBLE (Lee et al. 2021, arXiv 2106.05091), section 3.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from mujoco_sail.core.networks import StackedMLP
from mujoco_sail.core.objectives import log_likelihood
from mujoco_sail.core.optimiser import MemberAdam
from mujoco_sail.core.products import memberwise
from mujoco_sail.core.state import Tree, capture, restore
from mujoco_sail.core.streams import Streams
from mujoco_sail.preferences.pairs import Pairs
from mujoco_sail.recipes.task import Task

# Function of the rewards and the validity of a batch of pairs, both [M, E, B, 2, T], and of the
# labels, [M, E, B], that returns log P_nu(y), [M, E, B].
Likelihood = Callable[[Tensor, Tensor, Tensor], Tensor]
# Function of the labels, [M, P], and of the members that are still fitted, [M], called before every
# epoch, that returns the labels to fit and their weights, both [M, P]. A member's mean weight is 1,
# or 0 if it has no label to fit; then only Adam's moments move its networks.
Targets = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
# Function of the number of pairs in a batch that returns a value per network, [M, E].
Term = Callable[[int], Tensor]


def whole_segments(rewards: Tensor, valid: Tensor, label: Tensor) -> Tensor:
    """Log P_nu(y) of pairs of whole segments, a `Likelihood`."""
    return log_likelihood(margin(rewards, valid), label)


def as_given(labels: Tensor, active: Tensor) -> tuple[Tensor, Tensor]:
    """All labels as the teacher gave them, of equal weight: `Targets`."""
    return labels, torch.ones_like(labels)


@dataclass(frozen=True)
class Objective:
    """Objective that a fit maximises: the mean of log P_nu(y) over the labels, plus terms.

    An agent creates one for every label session. Its functions contain everything that belongs to
    this fit only, such as random streams.

    Attributes:
        likelihood: Function for log P_nu(y) of labelled pairs.
        targets: Function for the labels to fit and their weights in every epoch.
        terms: Terms to add, in this order.
    """

    likelihood: Likelihood = whole_segments
    targets: Targets = as_given
    terms: tuple[Term, ...] = ()

    def plus(self, term: Term) -> "Objective":
        """Returns a copy with one more term."""
        return replace(self, terms=(*self.terms, term))

    def value(self, log_p: Tensor) -> Tensor:
        """Objective of every network, [M, E], from weighted log-likelihoods, [M, E, B]."""
        total = log_p.mean(-1)
        for term in self.terms:
            total = total + term(log_p.shape[-1])
        return total


class Fitted(NamedTuple):
    """Results of a fit: values of each member in its last epoch, [M].

    Attributes:
        loss: Weighted mean of -log P_nu(y) over the labels and networks.
        accuracy: Fraction of correctly predicted labels with a weight above 0, without ties; NaN if
            there are none.
    """

    loss: Tensor
    accuracy: Tensor


class RewardModel:
    """Ensemble of E reward networks per member, with its optimiser.

    Args:
        task: Task, which defines the network size, and the epochs and batch size of a fit.
        inputs: Input size, O + A.
        networks: Number of networks, E.
        learning_rate: Learning rate of Adam.
        streams: Random streams of the initial parameters.

    Attributes:
        net: Networks, without the tanh that is applied to their output.
        adam: Optimiser.
        updates: Number of optimiser steps of each member, [M].
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
        """State for a checkpoint, see `core.state`."""
        return {name: capture(getattr(self, name), name) for name in ("net", "adam", "updates")}

    def load(self, saved: Tree) -> None:
        """Restores the state that `state` returned."""
        for name, value in saved.items():
            restore(getattr(self, name), value)

    # --- predictions ---

    def rewards(self, inputs: Tensor) -> Tensor:
        """Rewards r_nu of every network, [M, E, ...].

        Args:
            inputs: Observations and actions, [M, E, ..., O + A], or [M, 1, ..., O + A] if they are
                the same for all networks.
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
        """Fraction of the labels [M, P] that the networks predict correctly, without ties, [M]."""
        correct, strict = correct_predictions(self.margin(pairs), labels.unsqueeze(1))
        return correct.sum((1, 2)) / strict.sum((1, 2))

    # --- fitting ---

    def gradient(self, pairs: Pairs, labels: Tensor) -> list[Tensor]:
        """Gradient of the mean log P_nu(y) over labelled pairs, of every network, as `net.layers`.

        Args:
            pairs: P labelled pairs.
            labels: Labels, [M, P].
        """
        total = [torch.zeros_like(layer) for layer in self.net.layers]
        count, size = labels.shape[1], self.task.reward_batch_size
        for at in range(0, count, size):
            batch, label = pairs.part(slice(at, at + size)), labels[:, at : at + size]
            rewards = self.rewards(batch.inputs.unsqueeze(1))
            log_p = whole_segments(rewards, batch.valid.unsqueeze(1), label.unsqueeze(1))
            grad = gradient_of(log_p.sum(-1) / count, self.net)
            total = [sum_ + g for sum_, g in zip(total, grad, strict=True)]
        return total

    def fit(
        self,
        pairs: Pairs,
        labels: Tensor,
        objective: Objective,
        accuracy_target: float,
        streams: Streams,
    ) -> Fitted:
        """Trains each member until its accuracy in an epoch reaches the target.

        It takes at most `reward_epochs` epochs. A batch's accuracy is that before its step.

        Args:
            pairs: P labelled pairs.
            labels: Labels, [M, P].
            objective: Objective to maximise.
            accuracy_target: Fraction of labels to predict correctly, on whole segments.
            streams: Random streams of the order of the pairs, which each network draws separately.

        Returns:
            Loss and accuracy of each member in its last epoch.
        """
        members, count = labels.shape
        rows = torch.arange(members, device=labels.device).view(-1, 1, 1)
        active = torch.ones(members, dtype=torch.bool, device=labels.device)
        fitted = Fitted(*torch.full((2, members), torch.nan, device=labels.device))
        for _ in range(self.task.reward_epochs):
            order = streams.uniform(self.networks, count).argsort(-1)
            loss, correct, strict = torch.zeros(3, members, device=labels.device)
            targets, weights = objective.targets(labels, active)
            batches = torch.split(order, self.task.reward_batch_size, dim=-1)
            moving = active.tolist()
            for at in batches:
                valid, label, weight = pairs.valid[rows, at], targets[rows, at], weights[rows, at]
                with self.net.only(moving):
                    rewards = self.rewards(pairs.inputs[rows, at])
                    log_p = weight * objective.likelihood(rewards, valid, label)
                    value = objective.value(log_p).sum()
                    gradients = torch.autograd.grad(-value, self.net.parameters)
                self.adam.step(gradients, moving)
                loss -= log_p.detach().sum((1, 2)) / order[0].numel()
                right, counted = correct_predictions(margin(rewards.detach(), valid), label)
                correct += (right & (weight > 0)).sum((1, 2))
                strict += (counted & (weight > 0)).sum((1, 2))
            epoch = Fitted(loss, correct / strict)
            fitted = Fitted(
                *(torch.where(active, new, old) for new, old in zip(epoch, fitted, strict=True))
            )
            self.updates += active * len(batches)
            active = active & ~(epoch.accuracy >= accuracy_target)
            if not active.any():
                break
        return fitted


def gradient_of(objective: Tensor, net: StackedMLP) -> list[Tensor]:
    """Gradient of objectives [M, E], each with respect to its own network, as `net.layers`."""
    gradients = torch.autograd.grad(objective.sum(), net.parameters)
    return [g.flatten(0, 1) for g in gradients]


def margin(rewards: Tensor, valid: Tensor) -> Tensor:
    """R_nu(sigma_1) - R_nu(sigma_2), [..., P], from rewards and validity [..., P, 2, T]."""
    returns = (rewards * valid).sum(-1)
    return returns[..., 0] - returns[..., 1]


def correct_predictions(margin: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
    """Labels that the sign of the predicted margin agrees with; ties are excluded.

    Args:
        margin: R(sigma_1) - R(sigma_2), [..., P].
        label: Labels in {0, 0.5, 1}, broadcast to [..., P].

    Returns:
        Masks of the correctly predicted labels and of the labels that are not ties, both [..., P].
    """
    strict = (label != 0.5).expand_as(margin)
    return strict & ((margin > 0) == (label > 0.5)), strict
