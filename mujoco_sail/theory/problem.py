"""Log-linear preference problem: features, reference policy, oracle and ball of parameters.

    pi_theta(y|x) ~ exp(theta . phi(x, y)),   |theta| <= radius
    h = log pi_theta - log pi_ref,            margin = beta (h(y1) - h(y2))
    oracle: P(y1 > y2) = sigmoid(true reward of y1 - true reward of y2)

Source: the setting of SAIL-RevKL (arXiv 2606.31524).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mujoco_sail.core.streams import seed_for


@dataclass(frozen=True)
class Problem:
    """S problems of one shape.

    Attributes:
        features: phi, [S, P, K, D].
        reference: log pi_ref, [S, P, K].
        preference: P(y1 > y2) of the oracle, [S, P, K, K].
        origin: theta_ref, the parameters of pi_ref, [S, D].
        beta: Scale of the implicit reward, > 0.
        radius: Radius of the ball of parameters, > 0.
    """

    features: Tensor
    reference: Tensor
    preference: Tensor
    origin: Tensor
    beta: float
    radius: float

    def rows(self, part: slice) -> Problem:
        """Slice of the problems."""
        return Problem(
            self.features[part],
            self.reference[part],
            self.preference[part],
            self.origin[part],
            self.beta,
            self.radius,
        )

    def log_policy(self, theta: Tensor) -> Tensor:
        """Log pi_theta, [S, N, P, K], at theta [S, N, D]."""
        return torch.einsum("spkd,snd->snpk", self.features, theta).log_softmax(-1)

    def margins(self, log_policy: Tensor) -> Tensor:
        """Margins beta (h(y1) - h(y2)) of all pairs, [S, N, P, K, K]."""
        h = log_policy - self.reference[:, None]
        return self.beta * (h[..., :, None] - h[..., None, :])


def draw(
    seeds: Sequence[int],
    prompts: int,
    responses: int,
    features: int,
    beta: float,
    radius: float,
) -> Problem:
    """Draws one random problem per seed, independent of the other seeds.

    Features and true rewards are standard normal; the oracle is Bradley-Terry on the rewards;
    pi_ref is log-linear with |theta_ref| = radius / 3.
    """
    parts = []
    for seed in seeds:
        generator = torch.Generator().manual_seed(seed_for(seed, "problem"))
        phi, reward, origin = (
            torch.randn(shape, generator=generator, dtype=torch.float64)
            for shape in ((prompts, responses, features), (prompts, responses), (features,))
        )
        origin = origin / origin.norm() * radius / 3
        preference = torch.sigmoid(reward[:, :, None] - reward[:, None, :])
        parts.append((phi, (phi @ origin).log_softmax(-1), preference, origin))
    phi, reference, preference, origin = (torch.stack(part) for part in zip(*parts, strict=True))
    return Problem(phi, reference, preference, origin, beta, radius)


def project(theta: Tensor, radius: float) -> Tensor:
    """Projects onto the ball |theta| <= radius, along the last axis."""
    norm = theta.norm(dim=-1, keepdim=True)
    return torch.where(norm > radius, theta * (radius / norm), theta)


def ball(problem: Problem, seeds: Sequence[int], count: int, purpose: str) -> Tensor:
    """Samples points uniformly from the ball, [S, count, D], with one stream per seed."""
    size = problem.features.shape[-1]
    points = []
    for seed in seeds:
        generator = torch.Generator().manual_seed(seed_for(seed, purpose))
        direction = torch.randn(count, size, generator=generator, dtype=torch.float64)
        share = torch.rand(count, 1, generator=generator, dtype=torch.float64) ** (1 / size)
        points.append(direction / direction.norm(dim=-1, keepdim=True) * share * problem.radius)
    return torch.stack(points)
