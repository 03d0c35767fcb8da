"""Preference likelihood, SAIL's gradient terms T1 and T2, and the KL between Gaussian policies.

    J(nu) = E_{sigma_1, sigma_2 ~ pi_nu, y ~ oracle} [ log P_nu(y | sigma_1, sigma_2) ]
    grad J = T1 + T2
    T1 = E[ grad log P_nu(y) ]
    T2 = E[ (log P_nu(y) - b) * sum_i grad log p(sigma_i; pi_nu) ]

Source: SAIL (Ding et al. 2024, arXiv 2406.15567), section 4.
"""

import math

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from mujoco_sail.core.distributions import GaussianGradient
from mujoco_sail.core.products import memberwise


def log_likelihood(margin: Tensor, label: Tensor) -> Tensor:
    """Bradley-Terry log-likelihood of labels.

    Args:
        margin: R(sigma_1) - R(sigma_2), any shape.
        label: 1 where the first segment is preferred, 0 where the second, 0.5 for a tie.

    Returns:
        log P(label), of the margin's shape.
    """
    return label * logsigmoid(margin) + (1 - label) * logsigmoid(-margin)


def label_divergence(margin: Tensor, label: Tensor) -> Tensor:
    """KL(y || P) between labels and the ensemble's mean probability, in nats.

    Source: RIME (Cheng et al. 2024, arXiv 2402.17257).

    Args:
        margin: R(sigma_1) - R(sigma_2) by every network, [M, E, P].
        label: Labels in {0, 0.5, 1}, [M, P].

    Returns:
        Cross-entropy of label and prediction minus the label's entropy (ln 2 for a tie, else 0),
        [M, P].
    """
    least = torch.finfo(margin.dtype).tiny
    chances = [memberwise(torch.sigmoid, m).mean(1).clamp_min(least) for m in (margin, -margin)]
    first, second = (memberwise(torch.log, chance) for chance in chances)
    return -(label * first + (1 - label) * second) - torch.where(label == 0.5, math.log(2), 0.0)


def leave_one_out(values: Tensor) -> Tensor:
    """Leave-one-out baseline: for each sample, the mean of the others along the last axis.

    Args:
        values: [..., P]; a single sample has no others, and the baseline 0.
    """
    return (values.sum(-1, keepdim=True) - values) / max(1, values.shape[-1] - 1)


def t1_t2_surrogates(
    margin: Tensor, label: Tensor, score: Tensor, baseline: Tensor
) -> tuple[Tensor, Tensor]:
    """Surrogates per pair, whose gradients are the integrands of T1 and T2.

    Args:
        margin: R(sigma_1) - R(sigma_2), [..., P].
        label: Labels in {0, 0.5, 1}, [..., P].
        score: Function of the parameters whose gradient is
            sum_i grad log p(sigma_i; pi_nu), [..., P]; its value is not used.
        baseline: b, independent of its own pair (see `leave_one_out`), broadcast to [..., P].

    Returns:
        Surrogates of T1 and T2, [..., P]. Their means over pairs drawn from the current policy
        estimate the terms. The value of the first surrogate is log P.
    """
    log_p = log_likelihood(margin, label)
    return log_p, (log_p - baseline).detach() * score


def reward_advantage(reward: Tensor, policy_reward: Tensor, valid: Tensor) -> Tensor:
    """Function whose gradient, times T / (E alpha), is the score of a segment.

    The score is truncated at one step, with grad Q replaced by grad r:
    grad log pi_nu(a|s) = (grad r(s,a) - E_{a'~pi} grad r(s,a')) / alpha, where r is the mean of
    the E networks. The factor T / (E alpha) is in the weight, see `exact_t2_weight`.

    Args:
        reward: r_nu(s_t, a_t), [..., T].
        policy_reward: E_{a'~pi} r_nu(s_t, a'), exact or estimated from samples, [..., T].
        valid: 1 at steps of the segment, 0 at padding, [..., T].

    Returns:
        Sum over the segment's steps divided by T, [...].
    """
    return ((reward - policy_reward) * valid).sum(-1) / valid.shape[-1]


def exact_t2_weight(steps: int, networks: int, alpha: Tensor) -> Tensor:
    """Weight of `reward_advantage`, summed over both segments, that gives exactly T2.

    The policy is optimal for the mean of the reward networks at temperature alpha, so a step's
    grad log pi carries 1 / (E alpha) for each network. With this weight T1 + T2 is the derivative
    of E_{sigma_1, sigma_2 ~ pi_nu, y ~ oracle}[ log P_e(y) ] with respect to network e, after
    truncation at one step.

    Args:
        steps: T, steps of a segment.
        networks: E, networks of the reward ensemble.
        alpha: Entropy temperature of the policy, any shape.
    """
    return steps / (networks * alpha)


def gaussian_kl(
    reference_mean: Tensor, reference_log_std: Tensor, mean: Tensor, log_std: Tensor
) -> Tensor:
    """KL(pi_ref || pi) of squashed diagonal Gaussians.

    It equals the KL of the base Gaussians, because tanh is a bijection.

    Args:
        reference_mean: Mean of pi_ref, [..., A].
        reference_log_std: Log-std of pi_ref, [..., A].
        mean: Mean of pi, [..., A].
        log_std: Log-std of pi, [..., A].

    Returns:
        KL divergence in nats, [...].
    """
    variance_ratio = torch.exp(2 * (reference_log_std - log_std))
    distance = ((reference_mean - mean) * torch.exp(-log_std)) ** 2
    return 0.5 * (variance_ratio + distance - 1 - torch.log(variance_ratio)).sum(-1)


def gaussian_kl_gradient(
    reference_mean: Tensor, reference_log_std: Tensor, mean: Tensor, log_std: Tensor
) -> GaussianGradient:
    """Gradient of `gaussian_kl` with respect to mean and log-std, both [..., A]."""
    inverse_std = torch.exp(-log_std)
    distance = (mean - reference_mean) * inverse_std
    variance_ratio = torch.exp(2 * (reference_log_std - log_std))
    return GaussianGradient(distance * inverse_std, 1 - variance_ratio - distance * distance)
