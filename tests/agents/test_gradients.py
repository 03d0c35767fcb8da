"""The agents' own updates, in float64, against finite differences."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from helpers.runs import MakeRun
from torch import Tensor
from torch.distributions import Independent, Normal
from torch.distributions import kl_divergence as library_kl

from mujoco_sail.core.objectives import log_likelihood
from mujoco_sail.core.replay_buffer import Batch
from mujoco_sail.preferences.sessions import Pairs


class Recorder:
    """Stands in for an optimiser: keeps the gradients and moves nothing."""

    def __init__(self) -> None:
        self.gradients: list[Tensor] = []

    def step(self, gradients: Sequence[Tensor], active: Sequence[bool] | None = None) -> None:
        self.gradients = [gradient.clone() for gradient in gradients]


@pytest.fixture
def agent(make_run: MakeRun, float64: None) -> Any:
    """A SAIL-RevKL stack of two with data, labels and a reference, its optimisers replaced."""
    run = make_run(
        [("sail_revkl", 0), ("sail_revkl", 1)],
        settings={"sail_revkl": {"lambda": 0.8, "reverse_kl": 0.3}},
    )
    agent = run.members[0].entry.agent(run)
    agent.train()
    assert agent._newest is not None
    assert agent.anchored
    for name in ("critic_adam", "actor_adam", "alpha_adam", "reward_adam"):
        setattr(agent, name, Recorder())
    return agent


def assert_is_derivative(
    gradients: Sequence[Tensor], parameters: Sequence[Tensor], objective: Callable[[], Tensor]
) -> None:
    """Compares with central differences along random directions."""
    generator = torch.Generator().manual_seed(1)
    for _ in range(3):
        directions = [torch.randn(p.shape, generator=generator) for p in parameters]
        stated = sum(float((g * d).sum()) for g, d in zip(gradients, directions, strict=True))
        values = []
        for sign in (1, -1):
            with torch.no_grad():
                for p, d in zip(parameters, directions, strict=True):
                    p.add_(d, alpha=sign * 1e-6)
                values.append(float(objective()))
                for p, d in zip(parameters, directions, strict=True):
                    p.add_(d, alpha=-sign * 1e-6)
        measured = (values[0] - values[1]) / 2e-6
        assert measured == pytest.approx(stated, rel=1e-5, abs=1e-8)


def batch_of(agent: Any) -> Batch:
    return agent.replay_buffer.sample(agent.streams("test batch"), 8)


def fixed_noise(agent: Any) -> Tensor:
    noise = agent.streams("test noise").normal(8, agent.action_size)
    agent._noise = lambda observation: noise
    return noise


def test_the_critics_gradient_is_that_of_the_squared_bellman_error(agent: Any) -> None:
    batch = batch_of(agent)
    batch.terminated[:, ::2] = 1.0
    noise = fixed_noise(agent)
    agent.update_critic(batch)
    pi = agent.distribution(batch.next_observation)
    action, log_prob = pi.action_and_log_prob(noise)
    soft_value = (
        torch.minimum(*agent.q(agent.target, batch.next_observation, action).unbind(1))
        - agent.log_alpha.exp()[:, None] * log_prob
    )
    y = (batch.reward + 0.99 * (1 - batch.terminated) * soft_value).detach()

    def objective() -> Tensor:
        q = agent.q(agent.critic, batch.observation, batch.action)
        return (0.5 * (q - y[:, None]) ** 2).mean(-1).sum()

    assert_is_derivative(agent.critic_adam.gradients, agent.critic.parameters, objective)


def test_the_actors_gradient_is_that_of_soft_value_plus_anchor(agent: Any) -> None:
    batch, noise = batch_of(agent), fixed_noise(agent)
    agent.update_actor(batch.observation)

    def objective() -> Tensor:
        pi = agent.distribution(batch.observation)
        action, log_prob = pi.action_and_log_prob(noise)
        q = agent.q(agent.critic, batch.observation, action).amin(1)
        reference = agent.distribution(batch.observation, agent.reference)
        kl = library_kl(
            Independent(Normal(reference.mean, reference.log_std.exp()), 1),
            Independent(Normal(pi.mean, pi.log_std.exp()), 1),
        )
        loss = agent.log_alpha.exp()[:, None] * log_prob - q + 0.3 * kl
        return loss.mean(-1).sum()

    assert_is_derivative(agent.actor_adam.gradients, agent.actor.parameters, objective)


def test_the_temperatures_gradient_is_that_of_the_entropy_constraint(agent: Any) -> None:
    batch, noise = batch_of(agent), fixed_noise(agent)
    agent.update_actor(batch.observation)
    _, log_prob = agent.distribution(batch.observation).action_and_log_prob(noise)
    constraint = (-log_prob + agent.action_size).mean(-1).detach()
    assert_is_derivative(
        agent.alpha_adam.gradients,
        [agent.log_alpha],
        lambda: torch.dot(agent.log_alpha.exp(), constraint),
    )


def test_the_reward_gradient_is_that_of_t1_plus_lambda_t2(agent: Any) -> None:
    """T2's weights are constants of the estimator: they are held while nu moves."""
    newest, labels, pi = agent._newest
    noise = agent.streams("gap noise").normal(*pi.mean.shape[1:])
    agent._gap_streams.normal = lambda *shape: noise
    pairs = agent.pairs
    label = agent.labels[:, None]

    def margins(data: Pairs) -> Tensor:
        rewards = agent.ensemble_rewards(data.inputs[:, None]) * data.valid[:, None]
        return (rewards[..., 0, :] - rewards[..., 1, :]).sum(-1)

    with torch.no_grad():
        log_p = log_likelihood(margins(newest), labels[:, None])
        others = (log_p.sum(-1, keepdim=True) - log_p) / (log_p.shape[-1] - 1)
        weight = log_p - others

    def objective() -> Tensor:
        observation = newest.inputs[..., : agent.runner.sizes[0]]
        action = pi.action(noise).view(*observation.shape[:-1], -1)
        gap = agent.ensemble_rewards(newest.inputs[:, None]) - agent.ensemble_rewards(
            torch.cat([observation, action], -1)[:, None]
        )
        t1 = log_likelihood(margins(pairs), label).mean(-1)
        t2 = (weight * gap.mean(-1).sum(-1)).mean(-1)
        return (t1 + 0.8 * t2).sum()

    log_p_all = log_likelihood(margins(pairs), label)
    gradients = torch.autograd.grad(
        agent.reward_objective(log_p_all).sum(), agent.reward_net.parameters
    )
    assert_is_derivative(gradients, agent.reward_net.parameters, objective)


@pytest.mark.parametrize(
    ("coefficient", "moved"),
    [("lambda_", "reward_adam"), ("reverse_kl", "actor_adam")],
)
def test_a_coefficient_changes_the_gradient_of_its_own_parameters_only(
    agent: Any, coefficient: str, moved: str
) -> None:
    names = ("critic_adam", "actor_adam", "alpha_adam", "reward_adam")

    def gradients() -> dict[str, list[Tensor]]:
        agent.noise_streams = agent.streams("test noise")
        agent.before_reward_fit(agent._newest[0], agent._newest[1], first=False)
        agent.fit_reward(agent.pairs)
        batch = batch_of(agent)
        agent.update_critic(batch)
        agent.update_actor(batch.observation)
        return {name: getattr(agent, name).gradients for name in names}

    before = gradients()
    setattr(agent, coefficient, getattr(agent, coefficient) * 2)
    after = gradients()
    for name in names:
        same = all(torch.equal(a, b) for a, b in zip(before[name], after[name], strict=True))
        assert same == (name != moved), name


def test_the_projection_keeps_each_member_in_its_ball_and_is_the_identity_inside(
    agent: Any,
) -> None:
    before = [p.detach().clone() for p in agent.actor.parameters]
    norm = torch.stack([p.flatten(1).square().sum(1) for p in before]).sum(0).sqrt()
    agent.actor.project(torch.stack([norm[0] / 2, norm[1] * 2]))
    for old, new in zip(before, agent.actor.parameters, strict=True):
        torch.testing.assert_close(new[0], old[0] / 2)
        assert torch.equal(new[1], old[1])
