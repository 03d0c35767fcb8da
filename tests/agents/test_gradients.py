"""Gradients of the agents' updates in float64, compared with finite differences."""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest
import torch
from helpers.gradients import Recorder, assert_is_derivative
from helpers.runs import MakeRun, trained_once
from helpers.sessions import kept_terms, newest_session
from torch import Tensor
from torch.distributions import Independent, Normal
from torch.distributions import kl_divergence as library_kl

from mujoco_sail.agents.sampling_term import SamplingTerm
from mujoco_sail.core import update as update_module
from mujoco_sail.core.distributions import standard_normals
from mujoco_sail.core.objectives import log_likelihood
from mujoco_sail.core.replay_buffer import Batch
from mujoco_sail.core.update import LOGGED
from mujoco_sail.preferences.pairs import Pairs

# The loss variants of `sac_sb3`, with bounds that clip many outputs.
OTHER = {
    "log_std_form": "clamp",
    "log_std_low": -0.05,
    "log_std_high": 0.05,
    "temperature_loss": "log_alpha",
}


@pytest.fixture(params=[{}, OTHER], ids=["paper", "library"])
def agent(make_run: MakeRun, float64: None, request: pytest.FixtureRequest) -> Any:
    """A trained SAIL-RevKL stack of two members, with labels and a reference policy."""
    run = make_run(
        [("sail_revkl", 0), ("sail_revkl", 1)],
        settings={"sail_revkl": {"lambda": 0.8, "reverse_kl": 0.3, **request.param}},
    )
    agent = trained_once(run)
    assert agent.logged["t2_weight"].isfinite().all()
    assert agent.anchored
    return agent


class Step(NamedTuple):
    """Results of one update that changes no parameter."""

    batch: Batch
    next_noise: Tensor
    noise: Tensor
    gradients: dict[str, list[Tensor]]
    logged: Tensor


@pytest.fixture
def step(agent: Any, monkeypatch: pytest.MonkeyPatch) -> Step:
    state = agent.sac_state()
    recorder = Recorder(state)
    monkeypatch.setattr(update_module, "adam_step", recorder)
    streams = agent.streams("test")
    rows = agent.replay_buffer.sample(streams.uniform(8))
    batch = Batch.of(rows, *agent.runner.sizes)
    batch.terminated[:, ::2] = 1.0
    uniform = streams.uniform(8, 2 * agent.action_size)
    logged = torch.zeros(2, len(LOGGED))
    still = torch.zeros(())
    with torch.no_grad():
        update_module.update(agent._constants, state, rows, uniform, still, logged)
    return Step(batch, *standard_normals(uniform), recorder.gradients, logged)


def test_the_critic_gradient_equals_that_of_the_squared_bellman_error(
    agent: Any, step: Step
) -> None:
    batch = step.batch
    pi = agent.distribution(batch.next_observation)
    action, log_prob = pi.action_and_log_prob(step.next_noise)
    soft_value = (
        torch.minimum(*agent.q(agent.target, batch.next_observation, action).unbind(1))
        - agent.log_alpha.exp()[:, None] * log_prob
    )
    y = (batch.reward + 0.99 * (1 - batch.terminated) * soft_value).detach()

    def losses() -> Tensor:
        q = agent.q(agent.critic, batch.observation, batch.action)
        return (0.5 * (q - y[:, None]) ** 2).mean(-1).sum(-1)

    torch.testing.assert_close(step.logged[:, 0], losses().detach())
    assert_is_derivative(step.gradients["critic"], agent.critic.layers, lambda: losses().sum())


def test_the_actor_gradient_equals_that_of_the_soft_value_plus_anchor(
    agent: Any, step: Step
) -> None:
    batch = step.batch

    def losses() -> Tensor:
        pi = agent.distribution(batch.observation)
        action, log_prob = pi.action_and_log_prob(step.noise)
        q = agent.q(agent.critic, batch.observation, action).amin(1)
        reference = agent.distribution(batch.observation, agent.reference)
        kl = library_kl(
            Independent(Normal(reference.mean, reference.log_std.exp()), 1),
            Independent(Normal(pi.mean, pi.log_std.exp()), 1),
        )
        loss: Tensor = agent.log_alpha.exp()[:, None] * log_prob - q + 0.3 * kl
        return loss.mean(-1)

    log_std = agent.distribution(batch.observation).log_std
    cut_off = (log_std == agent.settings.log_std_high).any()
    assert cut_off == (agent.settings.log_std_form == "clamp")
    torch.testing.assert_close(step.logged[:, 1], losses().detach())
    assert_is_derivative(step.gradients["actor"], agent.actor.layers, lambda: losses().sum())


def test_the_stated_losses_have_the_gradients_of_the_update(agent: Any, step: Step) -> None:
    next_pi = agent.distribution(step.batch.next_observation)
    loss = agent.critic_loss(step.batch, *next_pi.action_and_log_prob(step.next_noise))
    torch.testing.assert_close(step.logged[:, 0], loss.detach())
    gradients = torch.autograd.grad(loss.sum(), agent.critic.parameters)
    for of_update, of_loss in zip(step.gradients["critic"], gradients, strict=True):
        torch.testing.assert_close(of_update.view_as(of_loss), of_loss)
    pi = agent.distribution(step.batch.observation)
    action, log_prob = pi.action_and_log_prob(step.noise)
    loss = agent.actor_loss(step.batch.observation, pi, action, log_prob)
    torch.testing.assert_close(step.logged[:, 1], loss.detach())
    gradients = torch.autograd.grad(loss.sum(), agent.actor.parameters)
    for of_update, of_loss in zip(step.gradients["actor"], gradients, strict=True):
        torch.testing.assert_close(of_update.view_as(of_loss), of_loss)


def test_the_temperature_gradient_equals_that_of_the_entropy_constraint(
    agent: Any, step: Step
) -> None:
    pi = agent.distribution(step.batch.observation)
    _, log_prob = pi.action_and_log_prob(step.noise)
    torch.testing.assert_close(step.logged[:, 2], -log_prob.mean(-1).detach())
    constraint = (-log_prob + agent.action_size).mean(-1).detach()
    assert_is_derivative(
        step.gradients["temperature"],
        [agent.log_alpha],
        lambda: torch.dot(
            agent.log_alpha.exp()
            if agent.settings.temperature_loss == "alpha"
            else agent.log_alpha,
            constraint,
        ),
    )


def test_the_reward_gradient_equals_t1_plus_weighted_t2(
    agent: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The factor and the weight of T2 are constants in the finite differences, too."""
    session = newest_session(agent)
    newest, labels = session.pairs, session.labels
    terms, weights = kept_terms(agent, monkeypatch)
    stated = agent.reward_objective(session)
    ((pi, weight),) = zip([term.pi for term in terms], weights, strict=True)
    noise = agent.streams("gap noise").normal(*pi.mean.shape[1:])
    monkeypatch.setattr(SamplingTerm, "noise", lambda term, streams: noise)
    pairs = agent.pairs
    label = agent.labels[:, None]

    def margins(data: Pairs) -> Tensor:
        rewards = agent.reward_model.rewards(data.inputs[:, None]) * data.valid[:, None]
        return (rewards[..., 0, :] - rewards[..., 1, :]).sum(-1)

    with torch.no_grad():
        log_p = log_likelihood(margins(newest), labels[:, None])
        others = (log_p.sum(-1, keepdim=True) - log_p) / (log_p.shape[-1] - 1)
        factor = log_p - others

    def objective() -> Tensor:
        observation = newest.inputs[..., : agent.runner.sizes[0]]
        by_policy = torch.cat([observation, pi.action(noise)], -1)
        rewards = agent.reward_model.rewards
        gap = rewards(newest.inputs[:, None]) - rewards(by_policy[:, None])
        t1 = log_likelihood(margins(pairs), label).mean(-1)
        t2 = (factor * gap.mean(-1).sum(-1)).mean(-1)
        return (t1 + weight * t2).sum()

    log_p_all = log_likelihood(margins(pairs), label)
    parameters = agent.reward_model.net.parameters
    gradients = torch.autograd.grad(stated.value(log_p_all).sum(), parameters)
    assert_is_derivative(gradients, parameters, objective)


@pytest.mark.parametrize(("coefficient", "moved"), [("lambda_", "reward"), ("reverse_kl", "actor")])
def test_a_coefficient_changes_only_the_gradient_of_its_own_parameters(
    agent: Any, coefficient: str, moved: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before_draws = agent.update_draws.state()

    def gradients() -> dict[str, list[Tensor]]:
        recorder = Recorder(agent.sac_state())
        monkeypatch.setattr(update_module, "adam_step", recorder)
        agent.update_draws.load(before_draws)
        agent._updater, agent.updates = None, 0  # the first update leaves the target unchanged
        agent.update()
        agent.reward_model.adam.step = lambda grad, _: recorder.gradients.update(reward=list(grad))
        agent.fit_reward(newest_session(agent))
        return recorder.gradients

    before = gradients()
    assert before.keys() == {"critic", "actor", "temperature", "reward"}
    setattr(agent, coefficient, getattr(agent, coefficient) * 2)
    after = gradients()
    for name in before:
        same = all(torch.equal(a, b) for a, b in zip(before[name], after[name], strict=True))
        assert same == (name != moved), name


def test_the_projection_keeps_each_actor_in_its_ball_and_is_the_identity_inside(
    agent: Any,
) -> None:
    before = [p.detach().clone() for p in agent.actor.parameters]
    norm = torch.stack([p.flatten(1).square().sum(1) for p in before]).sum(0).sqrt()
    radius = torch.stack([norm[0] / 2, norm[1] * 2])
    update_module.project_actor(agent.sac_state()._replace(radius=radius))
    for old, new in zip(before, agent.actor.parameters, strict=True):
        torch.testing.assert_close(new[0], old[0] / 2)
        assert torch.equal(new[1], old[1])
