"""Curvature and Polyak-Lojasiewicz (PL) ratio over the ball, to which the theorems refer.

    PL ratio at theta:  |grad J_g|^2 / (2 (J_g* - J_g(theta))),   J_g* = max J_g over the ball

The objective satisfies the PL condition on the ball with constant mu if no ratio is below mu.
A stationary point that is not a maximum has the ratio 0.

Source: SAIL-RevKL (arXiv 2606.31524).
"""

from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from mujoco_sail.theory.ascent import Ascents, ascend
from mujoco_sail.theory.exact import evaluate, hessians, in_chunks
from mujoco_sail.theory.problem import Problem, project

SEARCH_STEPS = 60
SMALLEST_GAP = 1e-9  # closer to J_g*, rounding errors dominate the ratio


@dataclass(frozen=True)
class Curvature:
    """Second derivatives at sampled points.

    Attributes:
        hessian: Hessian of J, [S, N, D, D].
        fisher: Fisher information, the Hessian of the anchor's KL, [S, N, D, D].
    """

    hessian: Tensor
    fisher: Tensor

    def eigenvalues(self, gamma: float) -> Tensor:
        """Eigenvalues of the Hessian of J_g in ascending order, [S, N, D]."""
        values: Tensor = torch.linalg.eigvalsh(self.hessian - gamma * self.fisher)
        return values


def curvature(problem: Problem, theta: Tensor) -> Curvature:
    """Second derivatives at theta [S, N, D]."""
    return Curvature(*in_chunks(hessians, problem, theta))


def pl_ratios(
    problem: Problem, gamma: float, best: Tensor, smoothness: Tensor, theta: Tensor
) -> tuple[Tensor, Tensor]:
    """PL ratio and its projected form at theta [S, N, D], [S, N] each.

    At the boundary of the ball, a projected step cannot realise the gain that the squared gradient
    predicts. The projected form (Karimi et al. 2016, arXiv 1608.04636) counts the gain that it
    can, and equals the plain form if the step stays inside:

        2 L max over y in the ball of [ grad . (y - theta) - L/2 |y - theta|^2 ]

    in place of |grad|^2. Both are infinite within `SMALLEST_GAP` of the maximum.

    Args:
        problem: S problems.
        gamma: Weight of the anchor.
        best: J_g*, [S].
        smoothness: L, the largest absolute eigenvalue of the Hessian, [S].
        theta: Parameters, [S, N, D].
    """
    value, gradient = in_chunks(partial(evaluate, gamma=gamma), problem, theta)
    gap = best[:, None] - value
    scale = smoothness[:, None]
    move = project(theta + gradient / scale[..., None], problem.radius) - theta
    gain = 2 * scale * ((gradient * move).sum(-1) - scale / 2 * (move**2).sum(-1)).clamp_min(0)
    far = gap > SMALLEST_GAP
    plain, projected = (
        (x / (2 * gap)).where(far, torch.inf) for x in ((gradient**2).sum(-1), gain)
    )
    return plain, projected


def search_worst(problem: Problem, gamma: float, best: Tensor, theta: Tensor) -> Tensor:
    """Searches points of small PL ratio by descent on its logarithm from theta [S, N, D].

    grad log ratio = 2 H grad / |grad|^2 + grad / (J_g* - J_g),   H the Hessian of J_g
    """

    def minus_log_ratio(theta: Tensor) -> tuple[Tensor, Tensor]:
        value, gradient = in_chunks(partial(evaluate, gamma=gamma), problem, theta)
        hessian, fisher = in_chunks(hessians, problem, theta)
        gap = (best[:, None] - value).clamp_min(SMALLEST_GAP)
        square = (gradient**2).sum(-1)
        turned = torch.einsum("snde,sne->snd", hessian - gamma * fisher, gradient)
        slope = 2 * turned / square[..., None] + gradient / gap[..., None]
        inside = best[:, None] - value > SMALLEST_GAP
        return (2 * gap / square).log().where(inside, -torch.inf), -slope

    worst, _, _ = ascend(minus_log_ratio, theta, problem.radius, SEARCH_STEPS)
    return worst


def worst_ratios(
    problem: Problem,
    gamma: float,
    ascents: Ascents,
    smoothness: Tensor,
    points: Tensor,
    searches: int,
) -> dict[str, Tensor]:
    """Smallest PL ratios, [S] each.

    Args:
        problem: S problems.
        gamma: Weight of the anchor.
        ascents: Ascents on J_g, the best of which gives J_g*.
        smoothness: L, [S].
        points: Sampled points, [S, N, D].
        searches: Number of searches, which start from the points of smallest ratio.

    Returns:
        `worst_sampled`: over the points. `worst_found`: over the points, the ends of the searches
        and the ends of the ascents, which are stationary. `worst_found_projected`: the same in
        the projected form.
    """
    best = ascents.maximum
    plain, projected = pl_ratios(problem, gamma, best, smoothness, points)
    order = plain.argsort(-1)[:, :searches, None].expand(-1, -1, points.shape[-1])
    found = search_worst(problem, gamma, best, points.gather(1, order))
    found = torch.cat([found, ascents.ends], 1)
    found_plain, found_projected = pl_ratios(problem, gamma, best, smoothness, found)
    return {
        "worst_sampled": plain.amin(-1),
        "worst_found": torch.cat([plain, found_plain], -1).amin(-1),
        "worst_found_projected": torch.cat([projected, found_projected], -1).amin(-1),
    }
