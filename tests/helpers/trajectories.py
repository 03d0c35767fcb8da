"""Enumeration of all trajectories of a small decision problem, without visit counts."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor

from mujoco_sail.theory.decisions import Decisions


@dataclass(frozen=True)
class Trajectories:
    """All L trajectories of problem 0 under condition 0.

    Attributes:
        decisions: Decision problem.
        states: States, [L, H].
        actions: Actions, [L, H].
    """

    decisions: Decisions
    states: Tensor
    actions: Tensor

    @classmethod
    def of(cls, decisions: Decisions) -> Trajectories:
        states, actions = decisions.reward.shape[1:]
        steps = list(product(range(states), range(actions)))
        every = torch.tensor(list(product(steps, repeat=decisions.horizon)))
        return cls(decisions, every[..., 0], every[..., 1])

    def probability(self, policy: Tensor) -> Tensor:
        """Probabilities [L] under a policy [H, Z, A]."""
        transitions = self.decisions.transitions[0, 0]
        moves = transitions[self.states[:, :-1], self.actions[:, :-1], self.states[:, 1:]]
        chosen = policy[torch.arange(self.decisions.horizon), self.states, self.actions]
        return chosen.prod(1) * moves.prod(1) / self.decisions.reward.shape[1]

    def rewards(self, reward: Tensor) -> Tensor:
        """Rewards of every step, [L, H], from rewards [Z, A]."""
        return reward[self.states, self.actions]

    def preference(self) -> Tensor:
        """Probabilities P(y = 1) of the oracle for all pairs, [L, L]."""
        returns = self.rewards(self.decisions.truth[0]).sum(1)
        return torch.sigmoid(returns[:, None] - returns)
