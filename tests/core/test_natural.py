"""Natural gradient steps in float64, compared with a Fisher matrix computed by autograd."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor
from torch.distributions import Independent, Normal, kl_divergence

from mujoco_sail.core.distributions import LogStd, SquashedGaussian
from mujoco_sail.core.natural_gradient import NaturalGradient, natural_step, output_fisher
from mujoco_sail.core.passes import (
    forward,
    gram_matrices,
    parameter_gradients,
    tangent_kernel_product,
)

MEMBERS, STATES = 2, 7
SIZES = (3, 5, 4, 4)  # two actions
TANH, CLAMP = LogStd(-5.0, 2.0, "tanh"), LogStd(-0.4, 0.3, "clamp")
DAMPING = 0.1

pytestmark = pytest.mark.usefixtures("float64")


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def layers(seed: int, scale: float = 0.5) -> list[Tensor]:
    """Layers of a policy with two hidden layers."""
    shapes = [
        (MEMBERS, rows, columns)
        for fan_in, columns in itertools.pairwise(SIZES)
        for rows in (fan_in, 1)
    ]
    return [scale * normal(*shape, seed=seed + i) for i, shape in enumerate(shapes)]


def flat(parameters: list[Tensor]) -> Tensor:
    """Each member's layers as one vector, [M, N]."""
    return torch.cat([p.flatten(1) for p in parameters], 1)


def unflat(vectors: Tensor, like: list[Tensor]) -> list[Tensor]:
    """Inverse of `flat`."""
    pieces = torch.split(vectors, [p[0].numel() for p in like], 1)
    return [piece.view(p.shape) for piece, p in zip(pieces, like, strict=True)]


def library_kl(old: list[Tensor], new: list[Tensor], states: Tensor, log_std: LogStd) -> Tensor:
    """E_s[ KL(old || new) ], [M], of base Gaussians."""
    base = []
    for parameters in (old, new):
        *hidden, weight, bias = parameters
        h = states
        for w, b in zip(hidden[::2], hidden[1::2], strict=True):
            h = torch.relu(h @ w + b)
        pi = SquashedGaussian.from_output(h @ weight + bias, log_std)
        base.append(Independent(Normal(pi.mean, pi.log_std.exp()), 1))
    return kl_divergence(*base).mean(-1)


def dense_fisher(parameters: list[Tensor], states: Tensor, log_std: LogStd) -> Tensor:
    """The Hessian of KL(pi_theta || pi) at pi = pi_theta, [M, N, N]."""
    theta = flat(parameters)

    def total_kl(moved: Tensor) -> Tensor:
        return library_kl(parameters, unflat(moved, parameters), states, log_std).sum()

    hessian = torch.autograd.functional.hessian(total_kl, theta)  # [M, N, M, N]
    return torch.stack([hessian[m, :, m] for m in range(MEMBERS)])


def output_jacobian(parameters: list[Tensor], states: Tensor) -> Tensor:
    """Jacobian of all outputs with respect to a member's parameters, [M, B 2A, N]."""

    def outputs(moved: Tensor) -> Tensor:
        return forward(unflat(moved, parameters), states)[0].flatten(1)

    jacobian = torch.autograd.functional.jacobian(outputs, flat(parameters))  # [M, B 2A, M, N]
    return torch.stack([jacobian[m, :, m] for m in range(MEMBERS)])


def of_outputs(seed: int = 0) -> Tensor:
    """Gradient of an objective with respect to the outputs."""
    return normal(MEMBERS, STATES, SIZES[-1], seed=seed + 50)


def stepped(
    natural: NaturalGradient, seed: int = 0, scale: float = 0.5
) -> tuple[list[Tensor], list[Tensor], Tensor, Tensor]:
    """Layers before and after a step, the gradient, [M, N], and the states."""
    old, of, states = layers(seed, scale), of_outputs(seed), normal(MEMBERS, STATES, 3)
    new = [p.clone() for p in old]
    natural_step(natural, new, of, states, TANH)
    return old, new, flat(parameter_gradients(old, forward(old, states)[1], of)), states


def test_the_tangent_kernel_product_equals_the_dense_product() -> None:
    parameters, states, v = layers(0), normal(MEMBERS, STATES, 3), of_outputs()
    inputs = forward(parameters, states)[1]
    j = output_jacobian(parameters, states)
    product = tangent_kernel_product(parameters, inputs, gram_matrices(inputs), v)
    expected = j @ (j.mT @ v.flatten(1)[..., None])
    torch.testing.assert_close(product.flatten(1), expected[..., 0], rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("log_std", [TANH, CLAMP], ids=["tanh", "clamp"])
def test_the_output_fisher_gives_the_dense_fisher_matrix(log_std: LogStd) -> None:
    parameters, states = layers(0), normal(MEMBERS, STATES, 3)
    output = forward(parameters, states)[0]
    raw = output.chunk(2, -1)[1]
    cut_off = (raw < log_std.low) | (raw > log_std.high)
    assert cut_off.any() == (log_std.form == "clamp")
    j, weight = output_jacobian(parameters, states), output_fisher(output, log_std) / STATES
    made = j.mT @ (weight.flatten(1)[..., None] * j)
    torch.testing.assert_close(
        made, dense_fisher(parameters, states, log_std), rtol=1e-10, atol=1e-12
    )


def test_a_step_equals_the_solution_with_the_dense_damped_fisher_matrix() -> None:
    small = NaturalGradient(max_kl=1e-8, iterations=100, damping=DAMPING)
    old, new, g, states = stepped(small)
    damped = dense_fisher(old, states, TANH) + DAMPING * torch.eye(g.shape[1])
    x = torch.linalg.solve(damped, g)
    expected = -x * (2 * small.max_kl / (g * x).sum(-1, keepdim=True)).sqrt()
    torch.testing.assert_close(flat(new) - flat(old), expected, rtol=1e-6, atol=1e-6 * 1e-4)


@pytest.mark.parametrize("iterations", [1, 3, 10])
def test_a_step_is_in_a_descent_direction_after_any_number_of_iterations(iterations: int) -> None:
    old, new, gradient, _ = stepped(NaturalGradient(0.01, iterations, DAMPING))
    slope = ((flat(new) - flat(old)) * gradient).sum(-1)
    assert (slope < 0).all()


@pytest.mark.parametrize("iterations", [1, 2, 5])
def test_the_iterates_equal_those_of_dense_conjugate_gradients(iterations: int) -> None:
    small = NaturalGradient(1e-8, iterations, DAMPING)
    old, new, g, states = stepped(small)
    a = dense_fisher(old, states, TANH) + DAMPING * torch.eye(g.shape[1])
    # Conjugate gradients minimise x^T A x / 2 - g^T x over the span of g, A g, A A g, ...
    powers = [g]
    for _ in range(iterations - 1):
        powers.append((a @ powers[-1][..., None])[..., 0])
    span = torch.linalg.qr(torch.stack(powers, -1)).Q
    x = span @ torch.linalg.solve(span.mT @ a @ span, span.mT @ g[..., None])
    beta = (2 * small.max_kl / (x.mT @ a @ x)).sqrt()
    expected = (-beta * x)[..., 0]
    torch.testing.assert_close(flat(new) - flat(old), expected, rtol=1e-6, atol=1e-6 * 1e-4)


def test_a_small_step_has_the_requested_kl_if_damping_is_small() -> None:
    old, states = layers(0), normal(MEMBERS, STATES, 3)
    # g = F v has small components where F is smaller than the damping.
    output = forward(old, states)[0]
    along = output_jacobian(old, states) @ flat(layers(50))[..., None]
    of = output_fisher(output, TANH) / STATES * along.view_as(output)
    new = [p.clone() for p in old]
    natural_step(NaturalGradient(1e-6, 100, 1e-6), new, of, states, TANH)
    kl = library_kl(old, new, states, TANH)
    torch.testing.assert_close(kl, torch.full((MEMBERS,), 1e-6), rtol=0.01, atol=0)


@pytest.mark.parametrize("max_kl", [0.01, 0.3, 3.0, 100.0])
@pytest.mark.parametrize("scale", [0.5, 2.0])
def test_no_step_exceeds_max_kl_by_more_than_ten_percent(max_kl: float, scale: float) -> None:
    """Most of these steps exceed it before the backtrack, some even after it."""
    reached = []
    for seed in range(1000, 1020):
        old, new, _, states = stepped(NaturalGradient(max_kl, 10, DAMPING), seed, scale)
        reached.append(library_kl(old, new, states, TANH) / max_kl)
    assert (torch.stack(reached) <= 1.1 * (1 + 1e-9)).all()
    assert torch.stack(reached).max() > 0.1


def test_a_member_whose_shortened_step_is_still_too_long_takes_no_step() -> None:
    old, new, _, _ = stepped(NaturalGradient(0.3, 10, DAMPING), seed=1048)
    moved = (flat(new) != flat(old)).any(1)
    assert moved.tolist() == [True, False]


def test_a_zero_gradient_gives_no_step() -> None:
    old, none = layers(0), torch.zeros_like(of_outputs())
    new = [p.clone() for p in old]
    natural_step(NaturalGradient(0.01, 10, DAMPING), new, none, normal(MEMBERS, STATES, 3), TANH)
    for one, other in zip(old, new, strict=True):
        assert torch.equal(one, other)


def test_a_nan_gradient_affects_only_its_own_member() -> None:
    old, of, states = layers(0), of_outputs(), normal(MEMBERS, STATES, 3)
    alone, beside = ([p.clone() for p in old] for _ in range(2))
    small = NaturalGradient(0.01, 10, DAMPING)
    natural_step(small, alone, of, states, TANH)
    of[0, 0, 0] = torch.nan
    natural_step(small, beside, of, states, TANH)
    assert flat(beside)[0].isnan().any()
    assert torch.equal(flat(beside)[1], flat(alone)[1])
