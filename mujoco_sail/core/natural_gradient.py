"""The natural gradient of a stack of Gaussian policies, a step of bounded KL divergence.

    F         = E_s[ J(s)^T D(s) J(s) ]                 Fisher information of pi_theta
    x         = (F + damping 1)^-1 g                    by conjugate gradients, g = grad J_pi
    theta'    = theta - beta x,   beta^2 x^T (F + damping 1) x / 2 = max_kl

J is the derivative of the actor's outputs with respect to theta, D the Fisher information of
pi(.|s) with respect to these outputs; that of a squashed Gaussian is that of its base Gaussian,
since tanh is a bijection. Expectations are means over the states of a batch.

The gradient reaches theta through the outputs, g = J^T w, so x is J^T xi, and what is solved is

    (D K + damping 1) xi = w,   K = J J^T

in the space of the outputs, which is the smaller one. With a^T K b as inner product of a and b its
conjugate gradients are those of the equation for x, number for number but for rounding. Neither F
nor K is formed. All is written out, without autograd, so that an update stays a function that can
be compiled.

Sources: Kakade 2001, "A Natural Policy Gradient"; TRPO (Schulman et al. 2015, arXiv 1502.05477),
appendix C, for the damping and the step's length.
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

# By how much a step may exceed `max_kl`.
TOLERANCE = 1.1


@dataclass(frozen=True)
class NaturalGradient:
    """How a policy moves.

    Attributes:
        max_kl: KL divergence of a step, in nats.
        iterations: Of conjugate gradients.
        damping: Added to the diagonal of the Fisher information.
    """

    max_kl: float
    iterations: int
    damping: float


def natural_step(
    natural: NaturalGradient,
    parameters: Parameters,
    grad_output: Tensor,
    observation: Tensor,
    log_std: LogStd,
) -> None:
    """A step of natural gradient descent, in place.

    KL(pi_theta || pi_theta') is measured, as a mean over the states. Where it exceeds max_kl by
    more than a tenth, the step is shortened once, by what the KL divergence would ask for if it
    grew with the square of the step; where that is not enough, the member stays where it is.

    Args:
        natural: Numbers.
        parameters: Layers of the m actors.
        grad_output: w, the gradient of what is descended with respect to the outputs, [m, B, 2A].
        observation: States, [m, B, O].
        log_std: Of the policy.
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

    With respect to mean and log-std it is 1 / std^2 and 2.
    """
    pi, (_, raw) = SquashedGaussian.from_output(output, log_std), output.chunk(2, -1)
    slope = log_std.gradient(raw, torch.ones_like(raw))
    return torch.cat([torch.exp(-2 * pi.log_std), 2 * slope * slope], -1)


def conjugate_gradients(
    natural: NaturalGradient, fisher: Tensor, kernel: Callable[[Tensor], Tensor], w: Tensor
) -> tuple[Tensor, Tensor]:
    """Solves (D K + damping 1) xi = w for every member, from xi = 0 on.

    Source: Hestenes and Stiefel 1952.

    Args:
        natural: Numbers; as many iterations for every member, one that is done keeps its xi.
        fisher: D, a diagonal, divided by the number of states, [m, B, 2A].
        kernel: K v of v, [m, B, 2A].
        w: [m, B, 2A].

    Returns:
        xi and x^T (F + damping 1) x of x = J^T xi, [m, 1, 1].
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
    # (D K + damping 1) xi is w less the residual.
    return xi, inner(k_xi, w - r)


def quotient(a: Tensor | float, b: Tensor) -> Tensor:
    """Division a / b; 0 where b is not positive."""
    return torch.where(b > 0, a / b, 0.0)


def inner(a: Tensor, b: Tensor) -> Tensor:
    """Inner products of each member's numbers, [m, 1, 1]."""
    # In two steps, as in `optimiser.member_sums`.
    return (a * b).sum(-1, keepdim=True).sum(1, keepdim=True)
