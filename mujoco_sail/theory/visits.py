"""Exact sums over all trajectories, by the visit counts of state-action pairs (s, a).

The return of a trajectory depends only on its visit counts, and so do the oracle's label and
log P. Trajectories with equal counts are therefore summed before pairs are formed: with 3 states,
2 actions and 8 steps, 1.7 million trajectories become 1287 vectors of counts.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Visits:
    """All vectors of visit counts of trajectories of H steps.

    Attributes:
        counts: Counts of complete trajectories, [V, D].
        successors: For t < H, the index at step t + 1 of the counts after a visit to (s, a) is
            added to counts [V_t], [V_t, Z, A].
    """

    counts: Tensor
    successors: tuple[Tensor, ...]

    @classmethod
    def of(cls, states: int, actions: int, horizon: int) -> Visits:
        """All visit counts of trajectories of `horizon` steps."""
        visit = torch.eye(states * actions, dtype=torch.int64)
        counts, successors = torch.zeros_like(visit[:1]), []
        for _ in range(horizon):
            joined = (counts[:, None] + visit).flatten(0, 1)
            counts, index = torch.unique(joined, dim=0, return_inverse=True)
            successors.append(index.view(-1, states, actions))
        return cls(counts.double(), tuple(successors))

    def forward(self, policy: Tensor, transitions: Tensor) -> list[Tensor]:
        """Joint probability of the counts and the state at step t, [S, C, V_t, Z], for t <= H.

        Args:
            policy: Policy, [S, C, H, Z, A].
            transitions: Transition probabilities, [S, C, Z, A, Z].
        """
        states = policy.shape[-2]
        reached = [policy.new_full((*policy.shape[:2], 1, states), 1 / states)]
        for t in range(len(self.successors)):
            visit = reached[t][..., None] * policy[:, :, t, None]
            reached.append(self._move(t, visit[..., None], transitions)[..., 0])
        return reached

    def credit(
        self, policy: Tensor, transitions: Tensor, reached: list[Tensor], value: Tensor
    ) -> Tensor:
        """Expected value credited to each visit, E[ value 1{s_t = s, a_t = a} ], [S, C, H, Z, A].

        Args:
            policy: Policy, [S, C, H, Z, A].
            transitions: Transition probabilities, [S, C, Z, A, Z].
            reached: Probabilities from `forward`.
            value: Value as a function of a trajectory's counts, [S, C, V].
        """
        ahead = value[..., None].expand(*value.shape, policy.shape[-2])
        credits = []
        for t in reversed(range(len(self.successors))):
            following = ahead[:, :, self.successors[t]]  # [S, C, V_t, Z, A, Z]
            visit = policy[:, :, t, None] * torch.einsum(
                "scvzay,sczay->scvza", following, transitions
            )
            credits.append((reached[t][..., None] * visit).sum(2))
            ahead = visit.sum(-1)
        return torch.stack(credits[::-1], 2)

    def score_moments(
        self, policy: Tensor, transitions: Tensor, reached: list[Tensor], scores: Tensor
    ) -> tuple[Tensor, Tensor]:
        """First and second moment of a trajectory's score, by its counts.

        Args:
            policy: Policy, [S, C, H, Z, A].
            transitions: Transition probabilities, [S, C, Z, A, Z].
            reached: Probabilities from `forward`.
            scores: Scores per step, whose sum over steps is the score, [S, C, H, Z, A, D].

        Returns:
            E[ score 1{counts} ], [S, C, V, D], and E[ |score|^2 1{counts} ], [S, C, V].
        """
        first = torch.zeros_like(reached[0][..., None].expand(*reached[0].shape, scores.shape[-1]))
        second = torch.zeros_like(reached[0])
        for t in range(len(self.successors)):
            probability = policy[:, :, t, None, ..., None]
            step, mass = scores[:, :, t, None], reached[t][..., None]
            before = first.unsqueeze(-2)
            square = mass * (step**2).sum(-1) + 2 * (before * step).sum(-1) + second[..., None]
            both = torch.cat([before + mass[..., None] * step, square[..., None]], -1)
            moved = self._move(t, both * probability, transitions)
            first, second = moved[..., :-1], moved[..., -1]
        return first.sum(3), second.sum(3)

    def _move(self, t: int, visit: Tensor, transitions: Tensor) -> Tensor:
        """Propagates values of visits, [S, C, V_t, Z, A, F], to the next step, [.., V, Z, F]."""
        last = t + 1 == len(self.successors)
        size = len(self.counts) if last else len(self.successors[t + 1])
        arriving = torch.einsum("scvzaf,sczay->scvzayf", visit, transitions).flatten(2, 4)
        moved = arriving.new_zeros(*arriving.shape[:2], size, *arriving.shape[3:])
        return moved.index_add(2, self.successors[t].flatten(), arriving)
