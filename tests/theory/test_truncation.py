from __future__ import annotations

from dataclasses import replace

import pandas as pd
import pytest
import torch
from helpers.trajectories import Trajectories
from torch import Tensor

from mujoco_sail.core.objectives import log_likelihood, reward_advantage, t1_t2_surrogates
from mujoco_sail.theory import summary, truncation
from mujoco_sail.theory.decisions import Condition, Decisions, draw
from mujoco_sail.theory.truncation import OWN_RETURN, T1_ALONE, gradients
from mujoco_sail.theory.visits import Visits

STATES, ACTIONS = 3, 2
CONDITIONS = [Condition(1.0, 0.3), Condition(0.3, 1.0), Condition(3.0, 0.0)]


def problem(
    horizon: int, condition: Condition = CONDITIONS[0], seed: int = 0, agreement: float = 0.5
) -> Decisions:
    return draw([seed], STATES, ACTIONS, horizon, agreement, [condition])


def counted(decisions: Decisions) -> tuple[Tensor, dict[str, Tensor]]:
    """Gradients of problem 0 under condition 0, [D] each."""
    visits = Visits.of(*decisions.reward.shape[1:], decisions.horizon)
    truth, estimates = gradients(decisions, visits)
    return truth[0, 0], {name: estimate[0, 0] for name, estimate in estimates.items()}


def derivative_of_j(decisions: Decisions) -> Tensor:
    """Autograd of J, enumerated trajectory by trajectory, through the soft-optimal policy."""
    paths = Trajectories.of(decisions)
    reward = decisions.reward.clone().requires_grad_()
    p = paths.probability(replace(decisions, reward=reward).policy()[0, 0])
    returns = paths.rewards(reward[0]).sum(1)
    log_p = log_likelihood(returns[:, None] - returns, paths.preference())
    (gradient,) = torch.autograd.grad(p @ log_p @ p, reward)
    return gradient.flatten()


def learners_gradient(decisions: Decisions) -> Tensor:
    """T1 + T2 by the agents' losses on all trajectories, with exact E_{a'~pi}."""
    paths = Trajectories.of(decisions)
    policy = decisions.policy()[0, 0]
    p = paths.probability(policy)
    reward = decisions.reward[0].clone().requires_grad_()
    rewards = paths.rewards(reward)
    steps = torch.arange(decisions.horizon)
    policy_reward = (policy * reward).sum(-1)[steps, paths.states]
    advantage = reward_advantage(rewards, policy_reward, torch.ones_like(rewards))
    # lambda = H / alpha turns the mean over steps into a sum.
    score = decisions.horizon / decisions.temperature[0] * advantage
    returns = rewards.sum(1)
    t1, t2 = t1_t2_surrogates(
        returns[:, None] - returns,
        paths.preference(),
        score[:, None] + score,
        torch.zeros(1, dtype=torch.float64),
    )
    (gradient,) = torch.autograd.grad(p @ (t1 + t2) @ p, reward)
    return gradient.flatten()


def gradient_with_own_return(decisions: Decisions) -> Tensor:
    """T1 + T2 with each trajectory's own return from t on instead of Q."""
    paths = Trajectories.of(decisions)
    policy = decisions.policy()
    gradient = decisions.q_gradients(policy, decisions.horizon)[0, 0]
    baseline = (policy[0, 0][..., None] * gradient).sum(-2)  # [H, Z, D]
    visited = torch.nn.functional.one_hot(paths.states * ACTIONS + paths.actions, 6).double()
    ahead = visited.flip(1).cumsum(1).flip(1)
    steps = torch.arange(decisions.horizon)
    score = (ahead - baseline[steps, paths.states]).sum(1) / decisions.temperature[0]
    p = paths.probability(policy[0, 0])
    returns = paths.rewards(decisions.reward[0]).sum(1)
    log_p = log_likelihood(returns[:, None] - returns, paths.preference())
    return counted(decisions)[1][T1_ALONE] + 2 * (p * (log_p @ p)) @ score


def close(x: Tensor, y: Tensor) -> None:
    torch.testing.assert_close(x, y, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("condition", CONDITIONS)
@pytest.mark.parametrize("horizon", [1, 2, 3])
def test_t1_plus_t2_is_the_derivative_of_j_over_all_pairs_of_trajectories(
    horizon: int, condition: Condition
) -> None:
    decisions = problem(horizon, condition)
    close(counted(decisions)[0], derivative_of_j(decisions))


def test_the_derivative_equals_finite_differences() -> None:
    decisions = problem(3)
    truth, differences = counted(decisions)[0], []
    for direction in torch.eye(6, dtype=torch.float64).view(6, STATES, ACTIONS):
        values = []
        for step in (1e-5, -1e-5):
            moved = replace(decisions, reward=decisions.reward + step * direction)
            paths = Trajectories.of(moved)
            p = paths.probability(moved.policy()[0, 0])
            returns = paths.rewards(moved.reward[0]).sum(1)
            values.append(p @ log_likelihood(returns[:, None] - returns, paths.preference()) @ p)
        differences.append((values[0] - values[1]) / 2e-5)
    torch.testing.assert_close(truth, torch.stack(differences), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("condition", CONDITIONS)
def test_truncation_at_one_step_equals_the_gradient_of_the_agents_losses(
    condition: Condition,
) -> None:
    decisions = problem(3, condition)
    close(counted(decisions)[1]["one step"], learners_gradient(decisions))


@pytest.mark.parametrize("condition", CONDITIONS)
def test_own_return_equals_the_sum_over_enumerated_trajectories(condition: Condition) -> None:
    decisions = problem(3, condition)
    close(counted(decisions)[1][OWN_RETURN], gradient_with_own_return(decisions))


@pytest.mark.parametrize(("name", "steps"), [("one step", 1), ("two steps", 2), ("four steps", 4)])
def test_truncation_is_exact_at_the_horizon_and_not_one_step_earlier(name: str, steps: int) -> None:
    truth, estimates = counted(problem(steps))
    close(estimates[name], truth)
    truth, estimates = counted(problem(steps + 1))
    assert (estimates[name] - truth).norm() > 1e-3 * truth.norm()


def test_one_step_is_exact_if_actions_do_not_change_the_next_state() -> None:
    decisions = problem(4)
    same = decisions.transitions.mean(3, keepdim=True).expand_as(decisions.transitions)
    truth, estimates = counted(replace(decisions, transitions=same))
    close(estimates["one step"], truth)
    assert (estimates[T1_ALONE] - truth).norm() > 0.01 * truth.norm()


def test_t1_is_zero_if_the_reward_equals_the_truth() -> None:
    truth, estimates = counted(problem(3, agreement=1.0))
    assert estimates[T1_ALONE].norm() < 1e-14
    assert truth.norm() > 1e-3


def test_the_policy_is_soft_optimal() -> None:
    """For one step pi ~ exp(r / alpha); at a low temperature the policy is greedy."""
    decisions = problem(1, Condition(0.5, 0.3))
    close(decisions.policy()[0, 0, 0], (decisions.reward[0] / 0.5).softmax(-1))
    greedy = problem(4, Condition(1e-3, 0.3)).policy()
    assert greedy.amax(-1).min() > 0.99


def test_trajectories_with_equal_visit_counts_are_merged() -> None:
    visits = Visits.of(STATES, ACTIONS, 4)
    assert visits.counts.shape == (126, 6)  # C(4 + 5, 5)
    assert len(torch.unique(visits.counts, dim=0)) == 126
    assert (visits.counts.sum(1) == 4).all()
    decisions = problem(4)
    reached = visits.forward(decisions.policy(), decisions.transitions)
    for step in reached:
        close(step.sum((2, 3)), torch.ones(1, 1, dtype=torch.float64))


def test_a_problem_does_not_depend_on_the_other_seeds() -> None:
    together, alone = (draw(seeds, 3, 2, 2, 0.5, CONDITIONS) for seeds in ([3, 5], [5]))
    for name in ("reward", "truth", "transitions"):
        assert torch.equal(getattr(together, name)[1:], getattr(alone, name))
    assert (together.transitions.sum(-1) - 1).abs().max() < 1e-12


def test_agreement_is_the_correlation_of_rewards_of_unit_variance() -> None:
    many = draw(range(500), 3, 2, 1, 0.6, CONDITIONS)
    both = torch.stack([many.reward.flatten(), many.truth.flatten()])
    assert float(torch.corrcoef(both)[0, 1]) == pytest.approx(0.6, abs=0.05)
    assert both.std(1).tolist() == pytest.approx([1, 1], abs=0.05)


def test_randomness_mixes_a_single_successor_with_random_ones() -> None:
    conditions = [Condition(1.0, randomness) for randomness in (0.0, 0.25, 1.0)]
    fixed, between, random = draw([0], 3, 2, 1, 0.5, conditions).transitions[0]
    assert (fixed.amax(-1) == 1).all()
    assert (random.amax(-1) < 1).all()
    close(between, 0.75 * fixed + 0.25 * random)


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    torch.set_num_threads(1)  # as for each test, but this fixture comes first
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(truncation, "HORIZONS", (1, 2, 4, 6))
        return truncation.measure(range(12))


def test_the_table_is_tidy_and_the_same_twice(table: pd.DataFrame) -> None:
    keys = ["seed", "horizon", "agreement", "temperature", "randomness", "estimate"]
    assert not table.duplicated(keys).any()
    assert table.notna().all(axis=None)
    assert len(table) == 12 * (4 + 3) * 20 * 5
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(truncation, "HORIZONS", (1, 2, 4, 6))
        assert truncation.measure(range(12)).equals(table)


def test_errors_are_ordered_as_the_docs_state(table: pd.DataFrame) -> None:
    def mean(estimate: str, **setting: float) -> float:
        part = summary.at(table, summary.USUALLY | setting)
        return float(part[part["estimate"] == estimate]["error"].mean())

    t1, one, two, four = (mean(name) for name in (T1_ALONE, *truncation.STEPS))
    assert four < two / 2 < one / 4 < t1 / 6
    assert mean(OWN_RETURN) > 2 * t1
    assert mean("one step", horizon=1) < 1e-12
    assert mean("one step", horizon=2) < one < mean("one step", randomness=0.0)
    assert mean("one step", temperature=10.0) < one / 3


def test_means_and_intervals_are_over_seeds() -> None:
    rows = [(seed, level, level * (1 + seed)) for seed in range(3) for level in (1.0, 10.0)]
    means = summary.over_problems(pd.DataFrame(rows, columns=["seed", "x", "y"]), "x", "y")
    assert means["mean"].to_dict() == {1.0: 2.0, 10.0: 20.0}
    assert (means["low"] < means["mean"]).all()
    assert (means["high"] > means["mean"]).all()
