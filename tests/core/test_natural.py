"""The natural gradient, in float64, against a Fisher matrix that autograd forms."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor
from torch.distributions import Independent, Normal, kl_divergence

from mujoco_sail.core.distributions import LogStd, SquashedGaussian
from mujoco_sail.core.natural import (
    NaturalGradient,
    fisher_product,
    flat,
    natural_step,
    output_fisher,
    unflat,
)
from mujoco_sail.core.passes import forward

MEMBERS, STATES = 2, 7
SIZES = (3, 5, 4, 4)  # two actions
TANH, CLAMP = LogStd(-5.0, 2.0, "tanh"), LogStd(-0.4, 0.3, "clamp")
DAMPING = 0.1

pytestmark = pytest.mark.usefixtures("float64")


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def layers(seed: int, scale: float = 0.5) -> list[Tensor]:
    """Of a policy with two hidden layers, or a direction of the same shapes."""
    shapes = [
        (MEMBERS, rows, columns)
        for fan_in, columns in itertools.pairwise(SIZES)
        for rows in (fan_in, 1)
    ]
    return [scale * normal(*shape, seed=seed + i) for i, shape in enumerate(shapes)]


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


def stepped(
    natural: NaturalGradient, seed: int = 0, scale: float = 0.5
) -> tuple[list[Tensor], list[Tensor], list[Tensor], Tensor]:
    """Layers before and after a step, its gradients, and the states."""
    old, gradients, states = layers(seed, scale), layers(seed + 50), normal(MEMBERS, STATES, 3)
    new = [p.clone() for p in old]
    natural_step(natural, new, gradients, states, TANH)
    return old, new, gradients, states


@pytest.mark.parametrize("log_std", [TANH, CLAMP], ids=["tanh", "clamp"])
def test_a_product_with_the_fisher_matrix_is_that_of_the_dense_one(log_std: LogStd) -> None:
    parameters, states, v = layers(0), normal(MEMBERS, STATES, 3), flat(layers(50))
    output, inputs = forward(parameters, states)
    raw = output.chunk(2, -1)[1]
    cut_off = (raw < log_std.low) | (raw > log_std.high)
    assert cut_off.any() == (log_std.form == "clamp")
    product = fisher_product(parameters, inputs, output_fisher(output, log_std) / STATES, v)
    expected = (dense_fisher(parameters, states, log_std) @ v[..., None])[..., 0]
    torch.testing.assert_close(product, expected, rtol=1e-10, atol=1e-12)


def test_a_step_is_that_of_the_dense_damped_fisher_matrix() -> None:
    small = NaturalGradient(max_kl=1e-8, iterations=100, damping=DAMPING)
    old, new, gradients, states = stepped(small)
    g = flat(gradients)
    damped = dense_fisher(old, states, TANH) + DAMPING * torch.eye(g.shape[1])
    x = torch.linalg.solve(damped, g)
    expected = -x * (2 * small.max_kl / (g * x).sum(-1, keepdim=True)).sqrt()
    torch.testing.assert_close(flat(new) - flat(old), expected, rtol=1e-6, atol=1e-6 * 1e-4)


@pytest.mark.parametrize("iterations", [1, 3, 10])
def test_a_step_goes_down_however_few_the_iterations(iterations: int) -> None:
    old, new, gradients, _ = stepped(NaturalGradient(0.01, iterations, DAMPING))
    slope = ((flat(new) - flat(old)) * flat(gradients)).sum(-1)
    assert (slope < 0).all()


def test_a_small_step_has_the_kl_that_was_asked_for_where_damping_is_small() -> None:
    old, states = layers(0), normal(MEMBERS, STATES, 3)
    # Of a function of the outputs, as every gradient of a policy is.
    gradients = unflat((dense_fisher(old, states, TANH) @ flat(layers(50))[..., None])[..., 0], old)
    new = [p.clone() for p in old]
    natural_step(NaturalGradient(1e-6, 100, 1e-6), new, gradients, states, TANH)
    kl = library_kl(old, new, states, TANH)
    torch.testing.assert_close(kl, torch.full((MEMBERS,), 1e-6), rtol=0.01, atol=0)


@pytest.mark.parametrize("max_kl", [0.01, 0.3, 3.0, 100.0])
@pytest.mark.parametrize("scale", [0.5, 2.0])
def test_no_step_exceeds_its_kl_by_more_than_a_tenth(max_kl: float, scale: float) -> None:
    """Without the backtrack most of these steps would; some would even so."""
    reached = []
    for seed in range(1000, 1020):
        old, new, _, states = stepped(NaturalGradient(max_kl, 10, DAMPING), seed, scale)
        reached.append(library_kl(old, new, states, TANH) / max_kl)
    assert (torch.stack(reached) <= 1.1 * (1 + 1e-9)).all()
    assert torch.stack(reached).max() > 0.1


def test_a_member_whose_shortened_step_is_too_long_stays_and_the_other_moves() -> None:
    old, new, _, _ = stepped(NaturalGradient(0.3, 10, DAMPING), seed=1011)
    moved = (flat(new) != flat(old)).any(1)
    assert moved.tolist() == [True, False]


def test_without_a_gradient_nothing_moves() -> None:
    old = layers(0)
    new, none = [p.clone() for p in old], [torch.zeros_like(p) for p in old]
    natural_step(NaturalGradient(0.01, 10, DAMPING), new, none, normal(MEMBERS, STATES, 3), TANH)
    for one, other in zip(old, new, strict=True):
        assert torch.equal(one, other)


def test_a_member_whose_gradient_is_not_a_number_is_lost_and_the_other_is_not() -> None:
    old, gradients, states = layers(0), layers(50), normal(MEMBERS, STATES, 3)
    alone, beside = ([p.clone() for p in old] for _ in range(2))
    small = NaturalGradient(0.01, 10, DAMPING)
    natural_step(small, alone, gradients, states, TANH)
    gradients[2][0, 0, 0] = torch.nan
    natural_step(small, beside, gradients, states, TANH)
    assert flat(beside)[0].isnan().any()
    assert torch.equal(flat(beside)[1], flat(alone)[1])
