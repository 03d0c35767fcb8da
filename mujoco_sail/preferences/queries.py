"""Which pairs of segments to ask about first.

Source: PEBBLE (arXiv 2106.05091), section 4.2; B-Pref (arXiv 2111.03026), section 4.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from torch import Tensor

Scheme = Literal[
    "uniform",
    "disagreement",
    "entropy",
    "k_center",
    "disagreement_k_center",
    "entropy_k_center",
]


@dataclass(frozen=True)
class Candidates:
    """Pairs to choose from, and those chosen before.

    Attributes:
        probability: P(first preferred) by each network of the ensemble, [M, E, P].
        inputs: Observations and actions of both segments, [M, P, 2, T, O + A]; padding repeats
            a segment's first step.
        labelled: The same of the pairs labelled in earlier sessions, [M, Q, 2, T, O + A].
        observation_size: O.
    """

    probability: Tensor
    inputs: Tensor
    labelled: Tensor
    observation_size: int

    def states(self, inputs: Tensor) -> Tensor:
        """The observations of both segments as one point per pair, [M, P, 2 * T * O]."""
        return inputs[..., : self.observation_size].flatten(2)


# --- how informative a pair is ---


def uniform(probability: Tensor) -> Tensor:
    """The same for every pair: candidates are drawn uniformly already."""
    return torch.zeros_like(probability[:, 0])


def disagreement(probability: Tensor) -> Tensor:
    """Standard deviation of the preference probability across the ensemble."""
    return probability.std(1, correction=0)


def entropy(probability: Tensor) -> Tensor:
    """Entropy of the predicted label, in nats, averaged over the ensemble."""
    p = torch.stack([probability, 1 - probability])
    return -torch.xlogy(p, p).sum(0).mean(1)


# --- in which order to ask ---


def k_center(points: Tensor, centers: Tensor) -> Tensor:
    """Greedy k-centre: next comes the point that is furthest from its nearest centre.

    Every point that was chosen is a centre for those after it. Distances are Euclidean.

    Args:
        points: [M, P, F].
        centers: Centres to begin with, [M, Q, F]; with Q = 0 the first point begins.

    Returns:
        Indices of all points in the order of choice, ties by index, [M, P].
    """
    distance = _distances(points, points)
    nearest = distance.new_full(points.shape[:2], torch.inf)
    if centers.shape[1]:
        nearest = _distances(points, centers).amin(-1)
    rows = torch.arange(len(points), device=points.device)
    order = []
    for _ in range(points.shape[1]):
        chosen = nearest.argmax(-1)  # [M]
        order.append(chosen)
        nearest = torch.minimum(nearest, distance[rows, chosen])
        nearest[rows, chosen] = -1.0
    return torch.stack(order, 1)


def ordered(information: Callable[[Tensor], Tensor], share: float, of: Candidates) -> Tensor:
    """The most informative candidates first, a share of them spread by greedy k-centre.

    Args:
        information: Value of a pair from the predicted probabilities, [M, E, P] to [M, P].
        share: Of the candidates, the most informative ones, that k-centre puts into its order;
            the others follow by information.
        of: The candidates.

    Returns:
        Indices of all pairs, the best first, ties in drawing order, [M, P].
    """
    order = information(of.probability).argsort(dim=-1, descending=True, stable=True)
    count = int(share * order.shape[1])
    if count == 0:
        return order
    rows = torch.arange(len(order), device=order.device).unsqueeze(1)
    best, others = order[:, :count], order[:, count:]
    spread = k_center(of.states(of.inputs[rows, best]), of.states(of.labelled))
    return torch.cat([best.gather(1, spread), others], 1)


# B-Pref chooses its centres among the better half of the candidates.
SCHEMES: dict[Scheme, Callable[[Candidates], Tensor]] = {
    "uniform": partial(ordered, uniform, 0.0),
    "disagreement": partial(ordered, disagreement, 0.0),
    "entropy": partial(ordered, entropy, 0.0),
    "k_center": partial(ordered, uniform, 1.0),
    "disagreement_k_center": partial(ordered, disagreement, 0.5),
    "entropy_k_center": partial(ordered, entropy, 0.5),
}


def ranking(scheme: Scheme, candidates: Candidates) -> Tensor:
    """Candidates in the order in which to ask: all of them, for a teacher may refuse some.

    Args:
        scheme: What makes a pair worth asking about.
        candidates: The pairs.

    Returns:
        Indices of the pairs, the best first, [M, P].
    """
    return SCHEMES[scheme](candidates)


def _distances(one: Tensor, other: Tensor) -> Tensor:
    """Euclidean distances of points [M, P, F] and [M, Q, F], [M, P, Q]."""
    # Not by a matrix product, whose rounding depends on the size of the stack.
    return torch.cdist(one, other, compute_mode="donot_use_mm_for_euclid_dist")
