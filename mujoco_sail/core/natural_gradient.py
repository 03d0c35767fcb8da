"""Natural gradient steps of bounded KL divergence for a stack of Gaussian policies.

    F         = E_s[ J(s)^T D(s) J(s) ]                 Fisher information of pi_theta
    x         = (F + damping 1)^-1 g                    by conjugate gradients, g = grad J_pi
    theta'    = theta - beta x,   beta^2 x^T (F + damping 1) x / 2 = max_kl

J is the Jacobian of the actor's outputs with respect to theta, D the Fisher information of
pi(.|s) with respect to these outputs. A squashed Gaussian has the Fisher information of its base
Gaussian, since tanh is a bijection. Expectations are means over the states of a batch; the code
puts their factor 1/B into D.

The gradient is g = J^T w, w the gradient with respect to the outputs. So x = J^T xi with

    (D K + damping 1) xi = w,   K = J J^T

which is solved in the space of the outputs, smaller than that of theta. With the inner product
a^T K b, conjugate gradients take the same iterates as for x, up to rounding. Neither F nor K is
formed. The code does not use autograd, so that a whole update can be compiled.

Sources: Kakade 2001, "A Natural Policy Gradient"; TRPO (Schulman et al. 2015, arXiv 1502.05477),
appendix C, for the damping and the step size.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from mujoco_sail.core.distributions import LogStd, SquashedGaussian
from mujoco_sail.core.objectives import gaussian_kl
from mujoco_sail.core.passes import (
    Parameters,
    forward,
    gram_matrices,
    parameter_gradients,
    tangent_kernel_product,
)

# Factor by which a step may exceed `max_kl`.
TOLERANCE = 1.1


@dataclass(frozen=True)
class NaturalGradient:
    """Settings of a natural gradient step; in a compiled update, the numbers are tensors, [].

    Attributes:
        max_kl: KL divergence of a step, in nats.
        iterations: Number of conjugate gradient iterations.
        damping: Added to the diagonal of the Fisher information.
    """

    max_kl: float | Tensor
    iterations: int
    damping: float | Tensor


def natural_step(
    natural: NaturalGradient,
    parameters: Parameters,
    grad_output: Tensor,
    observation: Tensor,
    log_std: LogStd,
) -> None:
    """Takes a step of natural gradient descent, in place.

    KL(pi_theta || pi_theta') is measured as a mean over the states. If a member exceeds max_kl by
    more than 10 %, its step is shortened once, on the assumption that the KL divergence is
    quadratic in the step. If the shorter step still exceeds the bound, the member takes no step.

    Args:
        natural: Settings of the step.
        parameters: Layers of the m actors.
        grad_output: w, the gradient of the loss with respect to the outputs, [m, B, 2A].
        observation: States, [m, B, O].
        log_std: Map from outputs to the policy's log-std.
    """
    output, inputs = forward(parameters, observation)
    old = SquashedGaussian.from_output(output, log_std)
    fisher = output_fisher(output, log_std) / observation.shape[1]
    kernel = partial(tangent_kernel_product, parameters, inputs, gram_matrices(inputs))
    xi, curvature = conjugate_gradients(natural, fisher, kernel, grad_output)
    x = parameter_gradients(parameters, inputs, xi)

    def kl(beta: Tensor) -> Tensor:
        moved, _ = forward([p - beta * d for p, d in zip(parameters, x, strict=True)], observation)
        new = SquashedGaussian.from_output(moved, log_std)
        return gaussian_kl(*old, *new).mean(-1)[:, None, None]

    beta = quotient(2 * natural.max_kl, curvature).sqrt()
    largest = TOLERANCE * natural.max_kl
    realised = kl(beta)
    beta = torch.where(realised > largest, beta * (natural.max_kl / realised).sqrt(), beta)
    beta = torch.where(kl(beta) <= largest, beta, 0.0)
    for p, d in zip(parameters, x, strict=True):
        p.sub_(beta * d)


def output_fisher(output: Tensor, log_std: LogStd) -> Tensor:
    """Diagonal of the Fisher information of pi(.|s) with respect to the outputs, [m, B, 2A].

    It is 1 / std^2 with respect to the mean and 2 with respect to the log-std.
    """
    pi, (_, raw) = SquashedGaussian.from_output(output, log_std), output.chunk(2, -1)
    slope = log_std.gradient(raw, torch.ones_like(raw))
    return torch.cat([torch.exp(-2 * pi.log_std), 2 * slope * slope], -1)


def conjugate_gradients(
    natural: NaturalGradient, fisher: Tensor, kernel: Callable[[Tensor], Tensor], w: Tensor
) -> tuple[Tensor, Tensor]:
    """Solves (D K + damping 1) xi = w for every member, starting from xi = 0.

    Source: Hestenes and Stiefel 1952.

    Args:
        natural: Settings. All members take the same number of iterations; a converged one keeps
            its xi.
        fisher: Diagonal of D, divided by the number of states, [m, B, 2A].
        kernel: Function from v to K v, both [m, B, 2A].
        w: Right-hand side, [m, B, 2A].

    Returns:
        xi, [m, B, 2A], and the curvature x^T (F + damping 1) x of x = J^T xi, [m, 1, 1].
    """
    xi, r, p = torch.zeros_like(w), w, torch.zeros_like(w)
    k_xi, kp = xi, p
    before = torch.full_like(w[:, :1, :1], torch.inf)
    for _ in range(natural.iterations):
        kr = kernel(r)
        rr = inner(r, kr)
        turn = quotient(rr, before)
        p, kp, before = r + turn * p, kr + turn * kp, rr
        ap = fisher * kp + natural.damping * p
        step = quotient(rr, inner(ap, kp))
        xi, k_xi, r = xi + step * p, k_xi + step * kp, r - step * ap
    # (D K + damping 1) xi = w - residual.
    return xi, inner(k_xi, w - r)


def quotient(a: Tensor | float, b: Tensor) -> Tensor:
    """Quotient a / b, or 0 where b is not positive."""
    return torch.where(b > 0, a / b, 0.0)


def inner(a: Tensor, b: Tensor) -> Tensor:
    """Inner product of a and b for each member, [m, 1, 1]."""
    # Two sums, for the reason given in `optimiser.member_sums`.
    return (a * b).sum(-1, keepdim=True).sum(1, keepdim=True)
