"""Which pairs of segments to ask about first.

Source: PEBBLE (arXiv 2106.05091), section 4.2; B-Pref (arXiv 2111.03026), section 4.
"""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

Scheme = Literal["uniform", "disagreement", "entropy"]


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


SCHEMES: dict[Scheme, Callable[[Tensor], Tensor]] = {
    "uniform": uniform,
    "disagreement": disagreement,
    "entropy": entropy,
}


def ranking(scheme: Scheme, probability: Tensor) -> Tensor:
    """Candidates in the order in which to ask.

    Args:
        scheme: How informative a pair is.
        probability: P(first preferred) by each network of the ensemble, [M, E, P].

    Returns:
        Indices of the pairs, the best first, ties in drawing order, [M, P].
    """
    return SCHEMES[scheme](probability).argsort(dim=-1, descending=True, stable=True)
