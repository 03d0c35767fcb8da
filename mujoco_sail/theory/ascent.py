"""Projected gradient ascent with exact gradients on a ball, from many starting points at once."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from mujoco_sail.theory.exact import evaluate, in_chunks
from mujoco_sail.theory.problem import Problem, project

STEPS = 300
TOLERANCE = 1e-8  # on |project(theta + gradient) - theta|
ROUNDING = 1e-15  # rounding error of J_g, whose size is about log 2
SAME_VALUE = 1e-9  # two ascents whose final J_g differ by less have found the same maximum


def ascend(
    function: Callable[[Tensor], tuple[Tensor, ...]], theta: Tensor, radius: float, steps: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Projected gradient ascent with Barzilai-Borwein steps and backtracking.

        theta <- project(theta + rate * gradient)

    A step that does not satisfy Armijo's rule (factor 1e-4) is not taken and its rate is quartered,
    so that the value never decreases.

    Args:
        function: Function from theta [S, N, D] to the value [S, N] and the gradient [S, N, D].
        theta: Starting points inside the ball.
        radius: Radius of the ball.
        steps: Maximum number of steps.

    Returns:
        Final points, their values and |project(theta + gradient) - theta|, [S, N].
    """
    value, gradient = function(theta)
    rate = torch.ones_like(value)[..., None]
    residual = (project(theta + gradient, radius) - theta).norm(dim=-1)
    for _ in range(steps):
        if (residual < TOLERANCE).all():
            break
        proposal = project(theta + rate * gradient, radius)
        move = proposal - theta
        new_value, new_gradient = function(proposal)
        gain = 1e-4 * (gradient * move).sum(-1) - ROUNDING
        better = (new_value >= value + gain)[..., None]
        curvature = ((gradient - new_gradient) * move).sum(-1, keepdim=True)
        newton = (move**2).sum(-1, keepdim=True) / curvature
        rate = torch.where(better, torch.where(curvature > 0, newton, 4 * rate), rate / 4)
        rate = rate.clamp(1e-6, 1e6)
        theta = torch.where(better, proposal, theta)
        gradient = torch.where(better, new_gradient, gradient)
        value = torch.where(better[..., 0], new_value, value)
        residual = (project(theta + gradient, radius) - theta).norm(dim=-1)
    return theta, value, residual


@dataclass(frozen=True)
class Ascents:
    """Final points of N ascents on J_g for each of S problems.

    Attributes:
        ends: Final points, [S, N, D].
        values: J_g at the final points, [S, N].
        residuals: |project(theta + gradient) - theta| at the final points, [S, N].
    """

    ends: Tensor
    values: Tensor
    residuals: Tensor

    @property
    def maximum(self) -> Tensor:
        """J_g*, the largest value, [S]."""
        return self.values.amax(-1)

    @property
    def maximiser(self) -> Tensor:
        """Final point with the largest value, [S, D]."""
        best = self.values.argmax(-1)
        return self.ends[torch.arange(len(best)), best]

    @property
    def gap(self) -> Tensor:
        """Difference between the two largest values, 0 if two ascents agree, [S]."""
        best, second = self.values.topk(2).values.unbind(-1)
        return best - second

    def share_at_maximum(self, count: int) -> Tensor:
        """Fraction of the first `count` ascents that reach J_g*, [S]."""
        reached = self.values[:, :count] >= self.maximum[:, None] - SAME_VALUE
        return reached.double().mean(-1)


def maximise(problem: Problem, gamma: float, starts: Tensor) -> Ascents:
    """Maximises J_g over the ball from starting points [S, N, D], N >= 2."""
    function = partial(in_chunks, partial(evaluate, gamma=gamma), problem)
    return Ascents(*ascend(function, starts, problem.radius, STEPS))
