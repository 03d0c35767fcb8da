from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from mujoco_sail.core.objectives import t1_t2_surrogates
from mujoco_sail.theory import direct, exact
from mujoco_sail.theory.ascent import ascend, maximise
from mujoco_sail.theory.direct import DRAWS, DirectSail
from mujoco_sail.theory.landscape import curvature, pl_ratios, worst_ratios
from mujoco_sail.theory.problem import Problem, ball, draw, project

SHAPES = [(3, 6, 4), (1, 3, 2), (4, 5, 16), (2, 8, 5)]  # prompts, responses, features
RUNS, BATCH = 2000, 100  # 200 000 samples

ARMS = pytest.mark.parametrize(
    ("gamma", "baseline"), [(0.0, True), (0.0, False), (0.3, True), (0.3, False)]
)
MUTATIONS = pytest.mark.parametrize("factor", [0.0, -1.0], ids=["t2-dropped", "t2-flipped"])


def random_problems(shape: tuple[int, int, int], beta: float) -> tuple[Problem, Tensor]:
    """25 problems and a point of each."""
    seeds = range(25)
    problem = draw(seeds, *shape, beta, radius=3.0)
    return problem, ball(problem, seeds, 1, "test")


def gradient_error() -> float:
    """Largest relative distance of T1 + T2 from autograd of J, on 100 random problems."""
    errors = []
    for shape, beta in zip(SHAPES, (0.1, 0.3, 1.0, 3.0), strict=True):
        problem, theta = random_problems(shape, beta)
        theta.requires_grad_()
        (truth,) = torch.autograd.grad(exact.objective(problem, theta).sum(), theta)
        error = sum(exact.terms(problem, theta)) - truth
        errors.append(error.norm(dim=-1) / truth.norm(dim=-1))
    assert sum(error.numel() for error in errors) == 100
    return float(torch.cat(errors).max())


def hessian_error(gamma: float) -> float:
    """Largest distance of the Hessian of J_g from central differences of its gradient."""
    errors = []
    for shape, beta in zip(SHAPES, (0.1, 0.3, 1.0, 3.0), strict=True):
        problem, theta = random_problems(shape, beta)
        hessian, fisher = exact.hessians(problem, theta)
        for column, step in enumerate(1e-5 * torch.eye(shape[-1], dtype=torch.float64)):
            ahead = exact.evaluate(problem, theta + step, gamma)[1]
            behind = exact.evaluate(problem, theta - step, gamma)[1]
            difference = (ahead - behind) / 2e-5
            errors.append((hessian - gamma * fisher)[..., column] - difference)
    return max(float(error.abs().max()) for error in errors)


def standard_errors_off(gamma: float, baseline: bool) -> float:
    """Largest deviation of the sampled gradient's mean over 200 000 samples, in standard errors."""
    problem = draw([0], 3, 6, 4, beta=1.0, radius=3.0)
    theta = ball(problem, [0], 1, "test")
    agent = DirectSail(problem, torch.full((RUNS,), gamma, dtype=torch.float64), baseline)
    agent.theta = theta.expand(1, RUNS, -1)
    uniform = torch.rand(1, RUNS, BATCH, DRAWS, generator=torch.Generator().manual_seed(1))
    estimates = agent.gradient(agent.ask(uniform.double()))[0]
    x = theta.clone().requires_grad_()
    regularised = exact.objective(problem, x) - gamma * exact.kl_to_reference(problem, x)
    (truth,) = torch.autograd.grad(regularised.sum(), x)
    standard_error = estimates.std(0) / RUNS**0.5
    return float(((estimates.mean(0) - truth[0, 0]) / standard_error).abs().max())


def scaled_t2(factor: float) -> Callable[..., tuple[Tensor, Tensor]]:
    def mutated(*args: Any) -> tuple[Tensor, Tensor]:
        t1, t2 = t1_t2_surrogates(*args)
        return t1, factor * t2

    return mutated


def test_t1_plus_t2_is_the_derivative_of_the_enumerated_objective() -> None:
    assert gradient_error() < 1e-12


@MUTATIONS
def test_the_derivative_check_rejects_a_wrong_t2(
    monkeypatch: pytest.MonkeyPatch, factor: float
) -> None:
    monkeypatch.setattr(exact, "t1_t2_surrogates", scaled_t2(factor))
    assert gradient_error() > 0.1


@pytest.mark.parametrize("gamma", [0.0, 0.3])
def test_the_hessian_is_the_derivative_of_the_gradient(gamma: float) -> None:
    assert hessian_error(gamma) < 1e-6


@MUTATIONS
def test_the_hessian_check_rejects_a_wrong_t2(
    monkeypatch: pytest.MonkeyPatch, factor: float
) -> None:
    monkeypatch.setattr(exact, "t1_t2_surrogates", scaled_t2(factor))
    assert hessian_error(0.0) > 1e-3


@ARMS
def test_the_sampled_gradient_is_unbiased(gamma: float, baseline: bool) -> None:
    assert standard_errors_off(gamma, baseline) < 4


@ARMS
@MUTATIONS
def test_the_check_of_the_sampled_gradient_rejects_a_wrong_t2(
    monkeypatch: pytest.MonkeyPatch, gamma: float, baseline: bool, factor: float
) -> None:
    monkeypatch.setattr(direct, "t1_t2_surrogates", scaled_t2(factor))
    assert standard_errors_off(gamma, baseline) > 4


def test_j_g_is_j_minus_gamma_times_the_kl() -> None:
    problem, theta = random_problems((3, 6, 4), beta=0.1)
    value, gradient = exact.evaluate(problem, theta, 0.3)
    theta.requires_grad_()
    regularised = exact.objective(problem, theta) - 0.3 * exact.kl_to_reference(problem, theta)
    (truth,) = torch.autograd.grad(regularised.sum(), theta)
    torch.testing.assert_close(value, regularised.detach(), rtol=0, atol=1e-14)
    torch.testing.assert_close(gradient, truth, rtol=1e-12, atol=1e-14)


def test_at_the_reference_the_kl_and_all_margins_are_zero() -> None:
    problem, _ = random_problems((3, 6, 4), beta=0.1)
    origin = problem.origin[:, None]
    assert exact.kl_to_reference(problem, origin).abs().max() < 1e-15
    log_half = torch.tensor(0.5, dtype=torch.float64).log()
    torch.testing.assert_close(exact.objective(problem, origin), log_half.expand(25, 1))


def test_a_problem_does_not_depend_on_the_other_seeds() -> None:
    together, alone = draw([3, 5], 3, 6, 4, 0.1, 3.0), draw([5], 3, 6, 4, 0.1, 3.0)
    assert torch.equal(together.features[1:], alone.features)
    assert torch.equal(together.preference[1:], alone.preference)


def test_the_oracle_is_antisymmetric() -> None:
    preference = draw([0], 3, 6, 4, 0.1, 3.0).preference
    torch.testing.assert_close(preference + preference.mT, torch.ones_like(preference))


def test_chunks_do_not_change_the_result(monkeypatch: pytest.MonkeyPatch) -> None:
    seeds = range(3)
    problem = draw(seeds, 3, 6, 4, 0.1, 3.0)
    theta = ball(problem, seeds, 7, "test")
    whole = exact.in_chunks(exact.hessians, problem, theta)
    for pairs in (1, 300, 1000):  # one point, some points, some problems at once
        monkeypatch.setattr(exact, "PAIRS_AT_ONCE", pairs)
        for part, full in zip(exact.in_chunks(exact.hessians, problem, theta), whole, strict=True):
            torch.testing.assert_close(part, full, rtol=1e-12, atol=1e-14)


def test_the_projection_is_the_identity_inside_and_reaches_the_sphere_from_outside() -> None:
    problem = draw([0], 3, 6, 4, 0.1, 3.0)
    inside = ball(problem, [0], 1000, "test")
    assert torch.equal(project(inside, 3.0), inside)
    direction = inside / inside.norm(dim=-1, keepdim=True)
    torch.testing.assert_close(project(50 * direction, 3.0), 3 * direction)


def test_every_response_answers_its_own_prompt() -> None:
    problem = draw([0], 3, 6, 4, 0.1, 3.0)
    agent = DirectSail(problem, torch.zeros(1, dtype=torch.float64))
    largest = 1 - 2**-24  # of single precision below 1
    for draws in (0.0, 0.5, largest):
        uniform = torch.full((1, 1, 3, DRAWS), draws).double()
        uniform[..., 0] = (torch.arange(3) + 0.5) / 3
        data = agent.ask(uniform)
        for index in (data.first, data.second, data.anchor):
            assert (index // 6).flatten().tolist() == [0, 1, 2]


def test_sampled_ascent_stays_inside_the_ball() -> None:
    problem = draw([0, 1], 3, 6, 4, 0.1, 3.0)
    agent = DirectSail(problem, torch.tensor([0.0, 0.3], dtype=torch.float64))
    generator = torch.Generator().manual_seed(0)
    norms = []
    for _ in range(20):
        uniform = torch.rand(2, 1, 16, DRAWS, generator=generator).double()
        agent.update(uniform, torch.full((2, 2), 100.0, dtype=torch.float64))
        norms.append(agent.theta.norm(dim=-1))
    assert torch.stack(norms).max() <= 3 + 1e-12
    assert torch.stack(norms).max() >= 3 - 1e-12  # the steps do lead outside


def test_exact_ascent_stays_in_the_ball_and_the_value_never_decreases() -> None:
    problem = draw([0], 3, 6, 4, 0.1, 3.0)
    starts = ball(problem, [0], 20, "starts")
    visited = []

    def function(theta: Tensor) -> tuple[Tensor, Tensor]:
        visited.append(theta)
        return exact.evaluate(problem, theta, 0.0)

    values = torch.stack([ascend(function, starts, 3.0, steps)[1] for steps in range(40)])
    assert torch.cat(visited).norm(dim=-1).max() <= 3 + 1e-12
    assert values.diff(dim=0).min() > -1e-14
    assert (values[-1] > values[0] + 1e-4).all()


def test_exact_ascent_finds_the_maximum_of_a_concave_function_on_the_sphere() -> None:
    target = torch.tensor([[[6.0, 8.0]]], dtype=torch.float64)
    scale = torch.tensor([1.0, 1.0], dtype=torch.float64)

    def function(theta: Tensor) -> tuple[Tensor, Tensor]:
        return -((theta - target) ** 2).sum(-1) / 2, scale * (target - theta)

    end, _, residual = ascend(function, torch.zeros(1, 1, 2, dtype=torch.float64), 5.0, 100)
    torch.testing.assert_close(end, target / 2)
    assert residual.max() < 1e-8


def test_the_maximum_is_above_every_sampled_point() -> None:
    seeds = range(4)
    problem = draw(seeds, 3, 6, 4, 0.1, 3.0)
    points = ball(problem, seeds, 3000, "points")
    for gamma in (0.0, 0.03):
        found = maximise(problem, gamma, ball(problem, seeds, 32, "starts"))
        value, _ = exact.evaluate(problem, points, gamma)
        assert (found.maximum > value.amax(-1)).all()
        at_maximiser, _ = exact.evaluate(problem, found.maximiser[:, None], gamma)
        torch.testing.assert_close(at_maximiser[:, 0], found.maximum)


def test_the_anchor_makes_the_objective_concave_with_positive_pl_ratios() -> None:
    seeds = range(2)
    problem = draw(seeds, 3, 6, 4, beta=0.1, radius=3.0)
    points = ball(problem, seeds, 1000, "points")
    bend = curvature(problem, points)
    worst = {}
    for gamma in (0.0, 0.3):
        eigenvalues = bend.eigenvalues(gamma)
        ascents = maximise(problem, gamma, ball(problem, seeds, 32, "starts"))
        smoothness = eigenvalues.abs().amax((1, 2))
        worst[gamma] = worst_ratios(problem, gamma, ascents, smoothness, points, 8)
        share = (eigenvalues[..., -1] > 0).double().mean(-1)
        if gamma == 0:
            assert (share > 0.8).all()
            assert (ascents.share_at_maximum(32) < 0.8).all()
        else:
            assert (share == 0).all()
            assert (ascents.share_at_maximum(32) == 1).all()
    free, anchored = worst[0.0], worst[0.3]
    assert (anchored["worst_sampled"] > 100 * free["worst_sampled"]).all()
    assert (anchored["worst_found_projected"] > 1e-3).all()
    assert (free["worst_found"] <= free["worst_sampled"]).all()
    assert (free["worst_found_projected"] < 1e-6).all()


def test_the_projected_pl_ratio_is_equal_inside_and_smaller_at_the_boundary() -> None:
    problem = draw([0], 3, 6, 4, beta=0.1, radius=3.0)
    best, smoothness = torch.tensor([0.0]).double(), torch.tensor([1.0]).double()
    inside = 0.5 * ball(problem, [0], 200, "test")
    plain, projected = pl_ratios(problem, 0.0, best, smoothness, inside)
    torch.testing.assert_close(plain, projected)
    edge = 3 * inside / inside.norm(dim=-1, keepdim=True)
    plain, projected = pl_ratios(problem, 0.0, best, smoothness, edge)
    outward = (exact.evaluate(problem, edge, 0.0)[1] * edge).sum(-1) > 0
    assert outward.any()
    assert (projected[outward] < plain[outward]).all()
    assert (projected <= plain * (1 + 1e-9)).all()
