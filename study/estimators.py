"""Estimators of T2 that docs/study.md compares, as factors of a `SamplingTerm`.

T2 = E[ (log P(y) - b) score ], where the score is sum_i grad log p(sigma_i; pi_nu), pairs come from
pi_nu and labels from the teacher. Every factor is a constant, [M, E, P]. The factor `by_labels`
gives SAIL's T2 for any pairs of the policy. The estimators `by_model` and `corrected` also use
pairs without labels:

    by_model    E[ E_{y ~ P}[log P(y)] score ] = grad through pi_nu of -E[ H(P) ], P frozen
    corrected   by_model + E[ (log P(y) - E_{y ~ P}[log P(y)]) score ] = T2

`by_model` uses no labels and rewards confidence, so it is not SAIL.
"""

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from mujoco_sail.core.objectives import leave_one_out, log_likelihood


def by_labels(margin: Tensor, label: Tensor) -> Tensor:
    """Factor log P(y) - b, where b is the mean over the other pairs.

    Args:
        margin: R_nu(sigma_1) - R_nu(sigma_2) of each network, [M, E, P].
        label: Labels, [M, P].
    """
    return centred(log_likelihood(margin, label.unsqueeze(1)))


def by_model(margin: Tensor) -> Tensor:
    """Factor E_{y ~ P}[log P(y)] - b, where the expectation is minus the entropy of the label."""
    return centred(expected_log_likelihood(margin))


def correction(margin: Tensor, label: Tensor) -> Tensor:
    """Factor of the correction by labels, log P(y) - E_{y ~ P}[log P(y)] - b."""
    known = log_likelihood(margin, label.unsqueeze(1))
    return centred(known - expected_log_likelihood(margin))


def by_all_pairs(returns: Tensor, task_returns: Tensor) -> Tensor:
    """Factor of the score of each segment, if all pairs of segments have their true labels.

    The mean of (log P - b)(score_i + score_j) over all pairs equals the mean over segments of
    2 (w_i - b_i) score_i, where w_i is the mean of log P over the pairs with segment i, and b_i
    the mean over the pairs without it.

    Args:
        returns: Returns R_nu of each network, [M, E, N].
        task_returns: Task returns, [M, N].

    Returns:
        Factors, [M, E, N].
    """
    factors = []
    for own, true in zip(returns, task_returns, strict=True):
        label = 0.5 * (1 + (true.unsqueeze(1) - true).sign())  # [N, N]
        log_p = log_likelihood(own.unsqueeze(2) - own.unsqueeze(1), label)
        log_p.diagonal(dim1=1, dim2=2).zero_()
        of_each, others = log_p.sum(-1), len(true) - 1
        without = log_p.sum((1, 2)).unsqueeze(1) - 2 * of_each
        factors.append(2 * (of_each / others - without / (others * (others - 1))))
    return torch.stack(factors)


def expected_log_likelihood(margin: Tensor) -> Tensor:
    """Expectation E_{y ~ P}[log P(y)] in nats, of the margin's shape."""
    p = torch.sigmoid(margin)
    return p * logsigmoid(margin) + (1 - p) * logsigmoid(-margin)


def centred(values: Tensor) -> Tensor:
    """Values minus the mean of the others, a baseline that does not change the expectation."""
    return values - leave_one_out(values)
