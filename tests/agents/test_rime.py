"""RIME: selection and flipping of labels, and the warm start."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.gradients import assert_is_derivative
from helpers.neutral import assert_is_pebble, assert_neutral_member_is_pebble
from helpers.runs import MakeRun, trained, trained_agent, trained_once
from helpers.sessions import newest_session
from helpers.tiny import CPU

from mujoco_sail.agents import rime
from mujoco_sail.agents.reward_model import Objective, RewardModel
from mujoco_sail.core.entropy import state_entropy_reward
from mujoco_sail.core.objectives import log_likelihood
from mujoco_sail.core.replay_buffer import Batch
from mujoco_sail.core.streams import Streams

OFF = {"alpha": math.inf, "tau_upper": math.inf, "warm_start_updates": 0}
HALF = {"alpha": 0.5, "beta_max": 3.0, "beta_min": 1.0, "beta_epochs": 4, "uncertainty_cap": 3.0}


@pytest.fixture
def agent(make_run: MakeRun, float64: None) -> Any:
    """A trained stack of two members."""
    return trained_once(make_run([("rime", 0), ("rime", 1)], settings={"rime": HALF}))


def exploring(make_run: MakeRun, warm: int) -> Any:
    """An agent that has filled its replay buffer, but has no labels yet."""
    run = make_run([("rime", 0), ("rime", 1)], settings={"rime": {"warm_start_updates": warm}})
    agent = trained_agent(run)
    agent.labels = agent.labels[:, :0]
    agent.entropy.zero_()
    return agent


def test_thresholds_off_and_no_warm_start_equal_pebble_bit_for_bit(make_run: MakeRun) -> None:
    assert_is_pebble(make_run, "rime", OFF)


def test_a_neutral_member_equals_pebble_in_a_stack_with_other_settings(
    make_run: MakeRun, tmp_path: Path
) -> None:
    assert_neutral_member_is_pebble(make_run, "rime", OFF, {}, tmp_path)


def test_a_neutral_member_equals_pebble_beside_one_that_leaves_labels_out(
    make_run: MakeRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rime, "RHO_RATE", 1.0)  # leaves labels out of a tiny run
    active = {"alpha": 1e-3, "uncertainty_cap": 0.0}
    assert_neutral_member_is_pebble(make_run, "rime", OFF, active, tmp_path)


@pytest.mark.parametrize(
    "changed",
    [{"alpha": 1e-3, "uncertainty_cap": 0.0}, {"tau_upper": 0.6}, {"warm_start_updates": 2}],
)
def test_each_part_changes_the_parameters(
    make_run: MakeRun, monkeypatch: pytest.MonkeyPatch, changed: dict[str, float]
) -> None:
    """With a faster average, rho becomes large enough in a tiny run to leave labels out."""
    monkeypatch.setattr(rime, "RHO_RATE", 1.0)
    one = trained(make_run([("rime", 0)], settings={"rime": OFF | changed}))["rime", 0]
    other = trained(make_run([("pebble", 0)]))["pebble", 0]
    assert not all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


# --- the denoising discriminator ---


def test_the_lower_threshold_is_the_hand_computed_one(agent: Any) -> None:
    """beta falls from 3 to 1 in four epochs: 3, 2, 1, 1; the third uncertainty is capped at 3."""
    agent.rho = torch.tensor([0.5, 2.0])
    for epochs, variance, uncertainty in (
        (0, 0.2, 0.6),
        (2, 0.2, 0.4),
        (0, 9.0, 3.0),
        (8, 0.2, 0.2),
    ):
        agent.epochs.fill_(epochs)
        agent.divergence[:, 2] = variance
        expected = torch.tensor([0.25 + math.log(2), 1 - math.log(2)]) + uncertainty
        torch.testing.assert_close(agent.tau_lower(), expected)


def test_labels_are_fitted_flipped_or_left_out_by_their_divergence(agent: Any) -> None:
    """-ln 0.38 = 0.97 and -ln 0.00102 = 6.89 are left out, -ln 0.001 = 6.91 is flipped."""
    probability = torch.tensor([0.9, 0.62, 0.6, 0.4, 0.001, 0.00102])
    labels = torch.tensor([1.0, 0.0, 0.5, 0.0, 1.0, 1.0]).expand(2, 6)
    agent.reward_model.margin = lambda pairs: torch.logit(probability).expand(2, 3, 6)
    agent.per_member = {
        "tau_upper": torch.full((2,), 6.9),
        "alpha": torch.full((2,), 0.5),
        "beta_min": torch.zeros(2),
        "beta_max": torch.zeros(2),
        "beta_epochs": torch.ones(2),
        "uncertainty_cap": torch.zeros(2),
    }.get
    agent.rho = torch.tensor([0.5, 0.5])  # tau_lower = ln 2 + 0.25 = 0.94
    agent.divergence.zero_()
    agent.epochs = torch.tensor([7.0, 7.0])
    before = {name: values.clone() for name, values in agent.logged.items()}
    targets, weights = agent.select(labels, torch.tensor([True, False]))
    assert targets.tolist() == [[1.0, 0.0, 0.5, 0.0, 0.0, 1.0]] * 2
    expected = torch.tensor([6 / 4, 0, 6 / 4, 6 / 4, 6 / 4, 0]).expand(2, 6)
    torch.testing.assert_close(weights, expected)
    torch.testing.assert_close(agent.logged["fitted_labels"][0], torch.tensor(4 / 6))
    torch.testing.assert_close(agent.logged["flipped_labels"][0], torch.tensor(1 / 6))
    for name in ("fitted_labels", "flipped_labels", "tau_lower"):
        assert agent.logged[name][1] == before[name][1]  # the second member is not active

    # -ln 0.9, the tie's -0.5 ln(0.6 0.4) - ln 2, and -ln 0.6; only the first member is active.
    fitted = [-math.log(0.9), -0.5 * math.log(0.24) - math.log(2), -math.log(0.6)]
    mean = sum(fitted) / 3
    moments = torch.tensor([3, mean, sum((d - mean) ** 2 for d in fitted) / 3])
    torch.testing.assert_close(agent.divergence, torch.stack([moments, torch.zeros(3)]))
    torch.testing.assert_close(agent.rho, torch.tensor([0.9 * 0.5 - 0.1 * math.log(0.6), 0.5]))
    assert agent.epochs.tolist() == [8.0, 7.0]


def test_labels_are_selected_in_slices_of_pairs(
    agent: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    margin, sizes = agent.reward_model.margin, []

    def counted(pairs: Any) -> torch.Tensor:
        sizes.append(pairs.valid.shape[1])
        return margin(pairs)  # type: ignore[no-any-return]

    active = torch.tensor([True, True])
    before = agent.divergence.clone(), agent.rho.clone(), agent.epochs.clone()
    whole = agent.select(agent.labels, active)
    agent.divergence, agent.rho, agent.epochs = before
    agent.reward_model.margin = counted
    monkeypatch.setattr(rime, "AT_ONCE", 3)
    for one, other in zip(agent.select(agent.labels, active), whole, strict=True):
        torch.testing.assert_close(one, other)
    assert sizes == [3, 3, 2]


def test_the_first_epoch_fits_all_labels(agent: Any) -> None:
    """rho is 1e-8, so that tau_lower is 18.4."""
    agent.rho.zero_()
    agent.divergence.zero_()
    torch.testing.assert_close(agent.tau_lower(), torch.full((2,), 8 * math.log(10)))


def test_the_gradient_of_the_fit_is_that_of_the_fitted_labels(agent: Any) -> None:
    weights = torch.tensor([2.0, 0.0] * 4).expand(2, 8)
    targets = 1 - agent.labels
    rewards = agent.reward_model.rewards(agent.pairs.inputs[:, None])
    fit = agent.reward_objective(newest_session(agent))
    valid = agent.pairs.valid[:, None]
    stated = fit.value(weights[:, None] * fit.likelihood(rewards, valid, targets[:, None])).sum()

    def objective() -> torch.Tensor:
        margin = agent.reward_model.margin(agent.pairs)[..., ::2]
        return log_likelihood(margin, targets[:, None, ::2]).mean(-1).sum()

    torch.testing.assert_close(stated, objective())
    parameters = agent.reward_model.net.parameters
    assert_is_derivative(torch.autograd.grad(stated, parameters), parameters, objective)


def test_a_fit_uses_the_selected_labels_alone(agent: Any) -> None:
    """Pairs of weight 0 may be anything, and count neither in the loss nor in the accuracy."""
    nets = []
    weights = torch.tensor([2.0, 0.0] * 4).expand(2, 8)
    for junk in (0.0, 1.0):
        model = RewardModel(agent.task, sum(agent.runner.sizes), 3, 1e-3, Streams([0, 1], "t", CPU))
        labels = agent.labels.clone()
        labels[:, 1::2] = junk
        objective = Objective(targets=lambda given, active: (given, weights))
        fitted = model.fit(agent.pairs, labels, objective, 1.0, Streams([0, 1], "order", CPU))
        nets.append((model.net.flat.clone(), fitted))
    assert torch.equal(nets[0][0], nets[1][0])
    torch.testing.assert_close(nets[0][1], nets[1][1], rtol=0, atol=0)
    assert nets[0][1].loss.gt(0).all()


# --- the warm start ---


def test_the_exploration_reward_is_clipped_to_three_standard_deviations(make_run: MakeRun) -> None:
    agent = exploring(make_run, warm=1)
    agent.entropy.copy_(torch.tensor([10.0, 2.0, 4.0]).expand(2, 3))
    entropies = torch.tensor([2.0, 5.0, -7.0, 8.0, -1.0]).expand(2, 5)
    expected = torch.tensor([0.0, 0.5, -1.0, 1.0, -0.5]).expand(2, 5)
    torch.testing.assert_close(agent.normalised(entropies), expected)


def test_a_batch_has_the_normalised_entropy_before_the_first_label(make_run: MakeRun) -> None:
    agent = exploring(make_run, warm=1)
    agent.warm = torch.tensor([1, 0])
    uniform = agent.streams("test").uniform(8)
    batch = Batch.of(agent.sample(uniform), *agent.runner.sizes)
    buffer = agent.replay_buffer
    h = state_entropy_reward(batch.observation, buffer.observation[:, : len(buffer)], 5)
    score = (h[0] - h[0].mean()) / (3 * h[0].std(correction=0))
    torch.testing.assert_close(batch.reward[0], score.clamp(-1, 1))
    torch.testing.assert_close(batch.reward[1], h[1])


def test_a_batch_has_the_learned_reward_after_the_first_label(agent: Any) -> None:
    assert agent.labels.shape[1]
    agent.warm = torch.tensor([1, 0])
    uniform, moments = agent.streams("test").uniform(8), agent.entropy.clone()
    rows = agent.sample(uniform).clone()
    assert torch.equal(rows, agent.replay_buffer.sample(uniform))
    assert torch.equal(agent.entropy, moments)


def test_the_gradient_of_the_warm_start_is_that_of_the_squared_error(agent: Any) -> None:
    rows = agent.replay_buffer.sample(agent.streams("test").uniform(8))
    batch = Batch.of(rows, *agent.runner.sizes)
    r = torch.linspace(-1, 1, 16).view(2, 8)

    def loss() -> torch.Tensor:
        inputs = torch.cat([batch.observation, batch.action], -1)
        out = torch.tanh(agent.reward_model.net(inputs[:, None])).squeeze(-1)
        return ((out - r[:, None]) ** 2).sum() / 8

    stated = agent.warm_start_loss(batch, r).sum()
    torch.testing.assert_close(stated, loss())
    parameters = agent.reward_model.net.parameters
    assert_is_derivative(torch.autograd.grad(stated, parameters), parameters, loss)


def test_a_member_takes_its_own_number_of_warm_start_steps(make_run: MakeRun) -> None:
    agent = exploring(make_run, warm=1)
    agent.sample(agent.streams("test").uniform(8))
    agent.warm = torch.tensor([3, 0])
    before, updates = agent.reward_model.net.flat.clone(), agent.reward_model.updates.clone()
    agent.start_warm(70)
    assert (agent.reward_model.updates - updates).tolist() == [3, 0]
    same = (agent.reward_model.net.flat == before).all(1).view(2, 3)
    assert same.tolist() == [[False] * 3, [True] * 3]


def test_the_warm_start_is_from_the_first_update_to_the_first_session(make_run: MakeRun) -> None:
    """Updates begin at step 60, the session is at 80."""
    run = make_run([("rime", 0), ("rime", 1)], settings={"rime": {"warm_start_updates": 2}})
    agent: Any = run.members[0].spec.agent(run)
    steps = []
    loss = agent.warm_start_loss

    def watched(batch: Batch, r: torch.Tensor) -> torch.Tensor:
        steps.append(agent.replay_buffer.written + 1)
        h = agent.state_entropy(batch.observation)
        torch.testing.assert_close(r, agent.normalised(h))
        return loss(batch, r)  # type: ignore[no-any-return]

    agent.warm_start_loss = watched
    agent.train()
    assert steps == [step for step in range(60, 80) for _ in range(2)]


def test_every_update_of_the_warm_start_has_a_batch_of_its_own(make_run: MakeRun) -> None:
    agent = exploring(make_run, warm=2)
    seen = []
    loss = agent.warm_start_loss

    def watched(batch: Batch, r: torch.Tensor) -> torch.Tensor:
        seen.append(batch.observation.sum((1, 2)))
        return loss(batch, r)  # type: ignore[no-any-return]

    agent.warm_start_loss = watched
    for step in (70, 71):
        agent.start_warm(step)
    assert len(torch.stack(seen).unique(dim=0)) == 4


def test_the_warm_start_descends_the_squared_error(make_run: MakeRun) -> None:
    agent = exploring(make_run, warm=1)
    agent.sample(agent.streams("test").uniform(8))
    buffer = agent.replay_buffer
    batch = Batch.of(buffer.sample(agent.streams("test").uniform(64)), *agent.runner.sizes)
    r = agent.normalised(agent.state_entropy(batch.observation))
    before = agent.warm_start_loss(batch, r).detach()
    agent.warm = torch.tensor([100, 100])
    agent.start_warm(70)
    assert (agent.warm_start_loss(batch, r) < 0.9 * before).all()


def test_the_reset_keeps_the_critics_of_members_with_a_warm_start(make_run: MakeRun) -> None:
    agent = exploring(make_run, warm=1)
    agent.warm = torch.tensor([1, 0])
    before = agent.critic.flat.clone().view(2, 2, -1)
    agent.reset_critic()
    after = agent.critic.flat.view(2, 2, -1)
    assert torch.equal(after[0], before[0])
    assert not torch.isclose(after[1], before[1]).all(-1).any()
    assert (agent.critic_adam.trained.steps > 0).tolist() == [True, False]
