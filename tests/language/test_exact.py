"""T1 + T2 and the anchor against the derivative of the objective, by enumeration."""

from __future__ import annotations

import itertools

import language_curvature as exact
import pytest
import torch
from torch import Tensor

from mujoco_sail.language import objective


@pytest.fixture(scope="module")
def away() -> exact.Enumerated:
    """Policy that has left its reference."""
    return moved(exact.problem(0, gamma=0.3))


def moved(problem: exact.Enumerated) -> exact.Enumerated:
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in problem.policy.parameters:
            noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            parameter.add_(0.1 * noise)
    return problem


def test_all_completions_have_probability_one_together(away: exact.Enumerated) -> None:
    assert len(away.completions) == 256
    for model in (away.policy, away.reference):
        total = away.log_policy(model).exp().sum(-1)
        torch.testing.assert_close(total, torch.ones(2).double(), rtol=0, atol=1e-12)


@pytest.mark.parametrize("gamma", [0.0, 0.3])
def test_t1_plus_t2_and_the_anchor_are_the_derivative_of_the_objective(gamma: float) -> None:
    problem = moved(exact.problem(0, gamma))
    t1, t2, anchor = problem.terms()
    expected = problem.flat(problem.objective())
    error = (t1 + t2 + gamma * anchor - expected).norm() / expected.norm()
    assert error < 1e-10
    assert t2.norm() > 0.1 * t1.norm()
    assert (t1 + gamma * anchor - expected).norm() > 0.1 * expected.norm()  # without T2


def test_the_anchor_is_the_derivative_of_the_divergence(away: exact.Enumerated) -> None:
    reference, policy = away.log_policy(away.reference), away.log_policy(away.policy)
    divergence = (reference.exp() * (reference - policy)).sum(-1).mean()
    _, _, anchor = away.terms()
    expected = -away.flat(divergence, keep=True)
    assert (anchor - expected).norm() < 1e-10 * expected.norm()
    # Samples of the policy would have the expectation 0.
    of_policy = away.flat((policy.detach().exp() * policy).sum(-1).mean())
    assert of_policy.norm() < 1e-10


def test_the_objective_has_the_gradient_of_finite_differences(away: exact.Enumerated) -> None:
    gradient, parameter = away.flat(away.objective()), away.policy.parameters[0]
    values = []
    for change in (1e-5, -2e-5, 1e-5):  # there, to the other side, and back
        with torch.no_grad():
            parameter[1, 2] += change
        values.append(away.objective().item())
    slope = (values[0] - values[1]) / 2e-5
    assert gradient[8 + 2].item() == pytest.approx(slope, rel=1e-6)


@pytest.mark.parametrize("offline", [False, True])
def test_estimates_of_batches_have_the_derivative_as_their_expectation(offline: bool) -> None:
    """All batches of two labelled pairs, with the leave-one-out baseline; half offline or none."""
    generator = torch.Generator().manual_seed(2)
    logits, reference, reward = torch.randn(3, 4, generator=generator, dtype=torch.float64)
    reference, beta = reference.log_softmax(0), 0.7
    logits.requires_grad_()
    chance = torch.sigmoid(reward[:, None] - reward[None, :])
    items = torch.tensor(list(itertools.product(range(4), range(4), range(2))))
    left, right, label = items.unbind(1)

    def probability(drawn_from: Tensor) -> Tensor:
        of_label = torch.where(label == 1, chance[left, right], 1 - chance[left, right])
        return (drawn_from[left] + drawn_from[right]).exp() * of_label

    first, second = torch.cartesian_prod(torch.arange(32), torch.arange(32)).unbind(1)
    batch = torch.stack([first, second], 1)  # [1024, 2]
    policy = logits.log_softmax(0)
    side = torch.stack([left, right], 1)[batch]  # [1024, 2, 2]
    online = torch.tensor([1.0, 0.0 if offline else 1.0]).double().expand(len(batch), 2)
    pairs = objective.Compared(policy[side], reference[side], label[batch].double(), online)
    t1, t2 = objective.estimates(pairs, beta)
    of_second = probability(reference if offline else policy).detach()[second]
    weight = probability(policy).detach()[first] * of_second
    assert weight.sum().item() == pytest.approx(1)
    (found,) = torch.autograd.grad((weight * (t1 + t2)).sum(), logits, retain_graph=True)

    h = beta * (policy - reference)
    margin = h[:, None] - h[None, :]
    likelihood = chance * margin.sigmoid().log() + (1 - chance) * (-margin).sigmoid().log()
    value = policy.exp() @ likelihood @ policy.exp()
    if offline:
        value = 0.5 * value + 0.5 * reference.exp() @ likelihood @ reference.exp()
    (expected,) = torch.autograd.grad(value, logits)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-14)


def test_lanczos_finds_the_largest_eigenvalue_of_the_whole_hessian() -> None:
    generator = torch.Generator().manual_seed(3)
    matrix = torch.randn(40, 40, generator=generator, dtype=torch.float64)
    matrix = matrix + matrix.T
    top = torch.linalg.eigvalsh(matrix)[-1].item()
    assert exact.lanczos(lambda v: matrix @ v, 40, 40) == pytest.approx(top, rel=1e-9)


def test_the_anchor_lowers_the_largest_curvature(away: exact.Enumerated) -> None:
    """Near the reference the Hessian of the divergence is its Fisher information."""
    free, held = exact.problem(1, gamma=0.0), exact.problem(1, gamma=1.0)
    assert held.largest_eigenvalue() < free.largest_eigenvalue()
    assert free.largest_eigenvalue() > 0
