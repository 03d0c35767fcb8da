"""Exact objective, gradient T1 + T2 and Hessian, by enumeration of all pairs.

    J(theta)   = E_x sum_{y1, y2} pi_theta(y1|x) pi_theta(y2|x)
                 E_{y ~ oracle} log sigmoid(beta (h(y_w) - h(y_l)))
    J_g(theta) = J(theta) - gamma E_x KL(pi_ref || pi_theta)

Sources: SAIL (arXiv 2406.15567) for J, SAIL-RevKL (arXiv 2606.31524) for J_g.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from mujoco_sail.core.objectives import log_likelihood, t1_t2_surrogates
from mujoco_sail.theory.problem import Problem

PAIRS_AT_ONCE = 1 << 17  # pairs in one float64 temporary of 1 MiB


def objective(problem: Problem, theta: Tensor) -> Tensor:
    """Objective J, [S, N], differentiable, at theta [S, N, D]."""
    log_policy = problem.log_policy(theta)
    policy = log_policy.exp()
    log_p = log_likelihood(problem.margins(log_policy), problem.preference[:, None])
    return torch.einsum("snpk,snpkl,snpl->snp", policy, log_p, policy).mean(-1)


def kl_to_reference(problem: Problem, theta: Tensor) -> Tensor:
    """E_x KL(pi_ref || pi_theta), [S, N], differentiable, in nats."""
    reference = problem.reference[:, None]
    return (reference.exp() * (reference - problem.log_policy(theta))).sum(-1).mean(-1)


def surrogates(problem: Problem, theta: Tensor) -> tuple[Tensor, Tensor]:
    """Surrogates, [S, N] each, whose gradients are T1 and T2; the value of the first is J.

    They are the estimators for samples, applied to all pairs: the mean over pairs becomes the sum
    over (y1, y2) weighted by pi(y1) pi(y2), and a label becomes its probability.
    """
    log_policy = problem.log_policy(theta)
    first, second = log_policy[..., :, None], log_policy[..., None, :]
    policy = log_policy.detach().exp()
    weight = policy[..., :, None] * policy[..., None, :] / policy.shape[-2]
    t1, t2 = t1_t2_surrogates(
        problem.margins(log_policy),
        problem.preference[:, None],
        first + second,
        weight.new_zeros(1),
    )
    return (weight * t1).sum((-3, -2, -1)), (weight * t2).sum((-3, -2, -1))


def terms(problem: Problem, theta: Tensor) -> tuple[Tensor, Tensor]:
    """T1 and T2, [S, N, D] each, whose sum is grad J."""
    theta = theta.detach().requires_grad_()
    t1, t2 = surrogates(problem, theta)
    (gradient1,) = torch.autograd.grad(t1.sum(), theta, retain_graph=True)
    (gradient2,) = torch.autograd.grad(t2.sum(), theta)
    return gradient1, gradient2


def evaluate(problem: Problem, theta: Tensor, gamma: Tensor | float) -> tuple[Tensor, Tensor]:
    """J_g and its gradient T1 + T2 - gamma grad KL: [S, N] and [S, N, D].

    Args:
        problem: S problems.
        theta: Parameters, [S, N, D].
        gamma: Weight of the anchor, broadcast to [S, N].
    """
    theta = theta.detach().requires_grad_()
    t1, t2 = surrogates(problem, theta)
    anchor = gamma * kl_to_reference(problem, theta)
    (gradient,) = torch.autograd.grad((t1 + t2 - anchor).sum(), theta)
    return (t1 - anchor).detach(), gradient


def hessians(problem: Problem, theta: Tensor) -> tuple[Tensor, Tensor]:
    """Hessian of J and Fisher information (the Hessian of the KL), [S, N, D, D] each.

    With centred features psi = phi - E_pi phi, l = E_oracle log sigmoid(margin) and its first
    two derivatives l', l'' in h(y1) - h(y2), and d, s = psi(y1) -+ psi(y2),

        Hessian = E_{y1, y2 ~ pi} [ l'' d d^T + l' (d s^T + s d^T) + (l - E l) s s^T ].

    l' is antisymmetric in the pair, l and l'' are symmetric, so each term is psi^T A psi with
    a K x K matrix A. The Hessian of J_g is the first result minus gamma times the second.
    """
    log_policy = problem.log_policy(theta)
    policy, prompts = log_policy.exp(), log_policy.shape[-2]
    margin, preference = problem.margins(log_policy), problem.preference[:, None]
    weight = policy[..., :, None] * policy[..., None, :]
    log_p = log_likelihood(margin, preference)
    chance = torch.sigmoid(margin)

    mean = (weight * log_p).sum((-2, -1), keepdim=True)
    level = weight * (log_p - mean)
    slope = weight * problem.beta * (preference - chance)
    bend = -weight * problem.beta**2 * chance * (1 - chance)
    diagonal = 2 * bend.sum(-1) + 4 * slope.sum(-1) + 2 * level.sum(-1)
    pairwise = torch.diag_embed(diagonal) - 2 * bend + 2 * level

    features = problem.features[:, None]
    psi = features - torch.einsum("snpk,spkd->snpd", policy, problem.features)[..., None, :]
    hessian = (psi.mT @ (pairwise @ psi)).sum(-3) / prompts
    fisher = (psi.mT @ (policy[..., None] * psi)).sum(-3) / prompts
    return hessian, fisher


def in_chunks(
    function: Callable[..., tuple[Tensor, ...]], problem: Problem, theta: Tensor, *more: Tensor
) -> tuple[Tensor, ...]:
    """Calls `function(problem, theta, *more)` with at most `PAIRS_AT_ONCE` pairs in memory.

    Args:
        function: Function of tensors whose first two axes are [S, N], as are those it returns.
        problem: S problems.
        theta: Parameters, [S, N, D].
        more: Further arguments, [S, N, ...] each.
    """
    problems, points = theta.shape[:2]
    columns = max(1, PAIRS_AT_ONCE // problem.preference[0].numel())
    rows = max(1, columns // points)
    parts = [
        [
            function(
                problem.rows(slice(i, i + rows)),
                *(x[i : i + rows, j : j + columns] for x in (theta, *more)),
            )
            for j in range(0, points, columns)
        ]
        for i in range(0, problems, rows)
    ]
    joined = [[torch.cat(x, 1) for x in zip(*row, strict=True)] for row in parts]
    return tuple(torch.cat(x) for x in zip(*joined, strict=True))
