"""Query selection: the order in which candidate pairs of segments are labelled.

Source: PEBBLE (arXiv 2106.05091), section 4.2; B-Pref (arXiv 2111.03026), section 4.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from torch import Tensor

from mujoco_sail.core.products import memberwise
from mujoco_sail.core.streams import Streams

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
    """Candidate pairs, and the pairs labelled before.

    Attributes:
        probability: P(first preferred) by each network of the ensemble, [M, E, P].
        inputs: Observations and actions of both segments, [M, P, 2, T, O + A]; padding repeats
            a segment's first step.
        labelled: Observations and actions of pairs from earlier sessions, [M, Q, 2, T, O + A].
        observation_size: O.
    """

    probability: Tensor
    inputs: Tensor
    labelled: Tensor
    observation_size: int

    def states(self, inputs: Tensor) -> Tensor:
        """Observations of both segments as one vector per pair, [M, P, 2 * T * O]."""
        return inputs[..., : self.observation_size].flatten(2)


# --- how informative a pair is ---


def uniform(probability: Tensor) -> Tensor:
    """Constant, [M, P], for [M, E, P]; keeps the order of the uniformly drawn candidates."""
    return torch.zeros_like(probability[:, 0])


def disagreement(probability: Tensor) -> Tensor:
    """Standard deviation of the probability across the ensemble, [M, P], for [M, E, P]."""
    return probability.std(1, correction=0)


def entropy(probability: Tensor) -> Tensor:
    """Entropy of the predicted label in nats, mean of the ensemble, [M, P], for [M, E, P]."""
    p = torch.stack([probability, 1 - probability])
    return -torch.xlogy(p, p).sum(0).mean(1)


# --- in which order to ask ---


def k_center(points: Tensor, centers: Tensor) -> Tensor:
    """Greedy k-centre selection: next is the point furthest from its nearest centre.

    Every selected point becomes a centre. Distances are Euclidean.

    Args:
        points: Points, [M, P, F].
        centers: Initial centres, [M, Q, F]; if Q = 0, the first point is selected first.

    Returns:
        Indices of all points in the order of selection, ties by index, [M, P].
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


def ordered(
    information: Callable[[Tensor], Tensor], share: float, candidates: Candidates
) -> Tensor:
    """Orders candidates by information, a share of the best by greedy k-centre.

    Args:
        information: Function from predicted probabilities, [M, E, P], to values of pairs, [M, P].
        share: Fraction of the candidates, the most informative, that k-centre orders; the others
            follow by information.
        candidates: The candidates.

    Returns:
        Indices of all pairs, best first, ties in the order of drawing, [M, P].
    """
    order = information(candidates.probability).argsort(dim=-1, descending=True, stable=True)
    count = int(share * order.shape[1])
    if count == 0:
        return order
    rows = torch.arange(len(order), device=order.device).unsqueeze(1)
    best, others = order[:, :count], order[:, count:]
    of_best = candidates.states(candidates.inputs[rows, best])
    spread = k_center(of_best, candidates.states(candidates.labelled))
    return torch.cat([best.gather(1, spread), others], 1)


def drawn_by_rank(score: Tensor, exponent: Tensor, at_once: int, streams: Streams) -> Tensor:
    """Draws segments one after the other with probabilities proportional to rank^-exponent.

    Source: PoLiCER (Heo et al. 2026, ICLR), its released code.

    Args:
        score: Scores of N segments, [M, N]; the highest has rank 1.
        exponent: Exponent of the ranks of each member, [M]; a member with 0 keeps the given order,
            which for segments drawn uniformly is such an order already.
        at_once: Number of successive draws whose order is random, a divisor of N.
        streams: Random streams of the draws.

    Returns:
        Indices of all segments in the order of drawing, without replacement, shuffled within each
        set of `at_once`, [M, N].
    """
    best_first = score.argsort(dim=-1, descending=True, stable=True)
    rank = best_first.argsort(-1).to(score.dtype) + 1
    # Exponential variables of rates rank^-exponent, sorted, are in the order of such draws
    # (Efraimidis and Spirakis 2006, Weighted random sampling with a reservoir). Their logarithms
    # are finite for any exponent.
    variables = -memberwise(torch.log1p, -streams.uniform(score.shape[1]))
    log_mean = exponent.unsqueeze(1) * memberwise(torch.log, rank)
    times = log_mean + memberwise(torch.log, variables)
    sets = times.argsort(dim=-1, stable=True).view(len(score), -1, at_once)
    shuffled = streams.uniform(*sets.shape[1:]).argsort(dim=-1, stable=True)
    given = torch.arange(score.shape[1], device=score.device)
    return torch.where(exponent.unsqueeze(1) > 0, sets.gather(-1, shuffled).flatten(1), given)


# B-Pref selects centres from the more informative half of the candidates.
SCHEMES: dict[Scheme, Callable[[Candidates], Tensor]] = {
    "uniform": partial(ordered, uniform, 0.0),
    "disagreement": partial(ordered, disagreement, 0.0),
    "entropy": partial(ordered, entropy, 0.0),
    "k_center": partial(ordered, uniform, 1.0),
    "disagreement_k_center": partial(ordered, disagreement, 0.5),
    "entropy_k_center": partial(ordered, entropy, 0.5),
}


def ranking(scheme: Scheme, candidates: Candidates) -> Tensor:
    """Ranks all candidates by a query scheme; the teacher may skip some of the first.

    Args:
        scheme: Query scheme.
        candidates: Candidate pairs.

    Returns:
        Indices of the pairs, best first, [M, P].
    """
    return SCHEMES[scheme](candidates)


def _distances(one: Tensor, other: Tensor) -> Tensor:
    """Euclidean distances between points [M, P, F] and [M, Q, F], [M, P, Q]."""
    # Without a matrix product, whose rounding would depend on the size of the stack.
    return torch.cdist(one, other, compute_mode="donot_use_mm_for_euclid_dist")
