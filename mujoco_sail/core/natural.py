"""The natural gradient of a stack of Gaussian policies, a step of bounded KL divergence.

    F         = E_s[ J(s)^T D(s) J(s) ]                 Fisher information of pi_theta
    x         = (F + damping 1)^-1 g                    by conjugate gradients, g = grad J_pi
    theta'    = theta - beta x,   beta^2 x^T (F + damping 1) x / 2 = max_kl

J is the derivative of the actor's outputs with respect to theta, D the Fisher information of
pi(.|s) with respect to these outputs; that of a squashed Gaussian is that of its base Gaussian,
since tanh is a bijection. Expectations are means over the states of a batch. F is never formed.
All is written out, without autograd, so that an update stays a function that can be compiled.

Sources: Kakade 2001, "A Natural Policy Gradient"; TRPO (Schulman et al. 2015, arXiv 1502.05477),
appendix C, for products with F, the damping and the step's length.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from mujoco_sail.core.distributions import LogStd, SquashedGaussian
from mujoco_sail.core.objectives import gaussian_kl
from mujoco_sail.core.optimiser import member_sums
from mujoco_sail.core.passes import Parameters, forward, output_derivative, parameter_gradients

# By how much a step may exceed `max_kl`.
TOLERANCE = 1.1
# Each member's vector takes a multiple of this many numbers, as in `core.networks`.
ALIGNED = 16


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
    gradients: Parameters,
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
        gradients: Of what is descended, as `parameters` are laid out.
        observation: States, [m, B, O].
        log_std: Of the policy.
    """
    theta = flat(parameters)
    output, inputs = forward(parameters, observation)
    old = SquashedGaussian.from_output(output, log_std)
    weight = output_fisher(output, log_std) / observation.shape[1]

    def damped_fisher(v: Tensor) -> Tensor:
        return fisher_product(parameters, inputs, weight, v) + natural.damping * v

    def kl(beta: Tensor) -> Tensor:
        moved, _ = forward(unflat(theta - beta * x, parameters), observation)
        new = SquashedGaussian.from_output(moved, log_std)
        return gaussian_kl(*old, *new).mean(-1, keepdim=True)

    gradient = flat(gradients)
    x, residual = conjugate_gradients(
        damped_fisher, gradient, natural.iterations, lambda a, b: inner(a, b, parameters)
    )
    # (F + damping 1) x is the gradient less the residual.
    curvature = inner(x, gradient - residual, parameters)
    beta = quotient(2 * natural.max_kl, curvature).sqrt()
    largest = TOLERANCE * natural.max_kl
    realised = kl(beta)
    beta = torch.where(realised > largest, beta * (natural.max_kl / realised).sqrt(), beta)
    beta = torch.where(kl(beta) > largest, 0.0, beta)
    for p, step in zip(parameters, unflat(beta * x, parameters), strict=True):
        p.sub_(step)


def output_fisher(output: Tensor, log_std: LogStd) -> Tensor:
    """Diagonal of the Fisher information of pi(.|s) with respect to the outputs, [m, B, 2A].

    With respect to mean and log-std it is 1 / std^2 and 2.
    """
    pi, (_, raw) = SquashedGaussian.from_output(output, log_std), output.chunk(2, -1)
    slope = log_std.gradient(raw, torch.ones_like(raw))
    return torch.cat([torch.exp(-2 * pi.log_std), 2 * slope * slope], -1)


def fisher_product(parameters: Parameters, inputs: Parameters, weight: Tensor, v: Tensor) -> Tensor:
    """F v = J^T diag(weight) J v, [m, N].

    Args:
        parameters: Layers of the m actors.
        inputs: Of every layer, as `forward` returned them.
        weight: D divided by the number of states, [m, B, 2A].
        v: [m, N], see `flat`.
    """
    along = output_derivative(parameters, inputs, unflat(v, parameters))
    return flat(parameter_gradients(parameters, inputs, weight * along))


def conjugate_gradients(
    product: Callable[[Tensor], Tensor],
    b: Tensor,
    iterations: int,
    inner: Callable[[Tensor, Tensor], Tensor],
) -> tuple[Tensor, Tensor]:
    """Solves A x = b for every member, from x = 0 on.

    Source: Hestenes and Stiefel 1952.

    Args:
        product: A v, [m, N], of v, [m, N]; A is symmetric and positive definite.
        b: [m, N].
        iterations: As many for every member; one that is done keeps its x.
        inner: Inner product of each member's vectors, [m, 1].

    Returns:
        x and the residual b - A x.
    """
    x, r, p = torch.zeros_like(b), b, b
    rr = inner(r, r)
    for _ in range(iterations):
        ap = product(p)
        step = quotient(rr, inner(p, ap))
        x, r = x + step * p, r - step * ap
        rr, before = inner(r, r), rr
        p = r + quotient(rr, before) * p
    return x, r


def quotient(a: Tensor | float, b: Tensor) -> Tensor:
    """Division a / b; 0 where b is not positive."""
    return torch.where(b > 0, a / b, 0.0)


def flat(layers: Parameters) -> Tensor:
    """Each member's layers, one network each, as one vector: [m, N], zeros at its end."""
    joined = torch.cat([layer.flatten(1) for layer in layers], 1)
    return functional.pad(joined, (0, -joined.shape[1] % ALIGNED))


def unflat(vectors: Tensor, like: Parameters) -> list[Tensor]:
    """The layers in vectors [m, N], views laid out as those of `StackedMLP` are."""
    lengths = [layer[0].numel() for layer in like]
    pieces = torch.split(vectors[:, : sum(lengths)], lengths, 1)
    return [piece.view(layer.shape) for piece, layer in zip(pieces, like, strict=True)]


def inner(a: Tensor, b: Tensor, like: Parameters) -> Tensor:
    """Inner products of the members' vectors, [m, 1]."""
    return member_sums(unflat(a * b, like))[:, None]
