"""RUNE: PEBBLE with an exploration bonus."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.gradients import Recorder, assert_is_derivative
from helpers.neutral import assert_is_pebble, assert_neutral_member_is_pebble
from helpers.runs import MakeRun, trained_once
from helpers.tiny import tiny_task
from torch import Tensor

from mujoco_sail.agents.pebble import PEBBLE
from mujoco_sail.core import update as update_module
from mujoco_sail.core.distributions import standard_normals
from mujoco_sail.core.replay_buffer import Batch
from mujoco_sail.core.update import LOGGED

NEUTRAL = {"exploration_weight": 0.0}
BETA, RHO, LAST = 0.5, 0.01, 150


@pytest.fixture
def agent(make_run: MakeRun, float64: None) -> Any:
    """A trained stack of two members with large bonuses and a wrapped replay buffer."""
    settings = {"exploration_weight": BETA, "exploration_decay": RHO}
    task = tiny_task(replay_capacity=100)
    return trained_once(make_run([("rune", 0), ("rune", 1)], task, settings={"rune": settings}))


def ensemble_std(agent: Any, observation: Tensor, action: Tensor) -> Tensor:
    """Std over the ensemble by its definition, [M, B]."""
    with torch.no_grad():
        inputs = torch.cat([observation, action], -1)[:, None]
        rewards = agent.reward_model.rewards(inputs).unbind(1)
    assert len(rewards) == 3
    mean = (rewards[0] + rewards[1] + rewards[2]) / 3
    return (sum((r - mean) ** 2 for r in rewards) / 3) ** 0.5


@pytest.mark.parametrize("engine", ["eager", "compiled"])
def test_a_weight_of_zero_equals_pebble_bit_for_bit(make_run: MakeRun, engine: str) -> None:
    assert_is_pebble(make_run, "rune", NEUTRAL, tiny_task(engine=engine))


def test_a_neutral_member_equals_pebble_in_a_stack_with_other_weights(
    make_run: MakeRun, tmp_path: Path
) -> None:
    assert_neutral_member_is_pebble(make_run, "rune", NEUTRAL, {}, tmp_path)


def test_the_weight_decays_per_environment_step(make_run: MakeRun) -> None:
    settings = {"exploration_weight": 0.05, "exploration_decay": 1e-5}
    run = make_run([("rune", 0), ("rune", 1)], settings={"rune": settings})
    agent: Any = run.members[0].spec.agent(run)
    for step, factor in ((0, 1.0), (1, 0.99999), (100_000, 0.3678776), (400_000, 0.0183153)):
        torch.testing.assert_close(
            agent.beta(step), torch.full((2,), 0.05 * factor), rtol=1e-5, atol=0
        )
    used = []
    agent.update = lambda: used.append(agent._beta.clone())
    agent.learn_step(70)
    torch.testing.assert_close(used, [torch.full((2,), 0.05 * 0.9993002)], rtol=1e-6, atol=0)


def test_a_batch_has_the_mean_reward_plus_beta_times_the_std(agent: Any) -> None:
    """Networks with outputs 1, 2 and 6: mean 3, std sqrt(14 / 3)."""
    says = torch.tensor([1.0, 2.0, 6.0])
    agent.reward_model.rewards = lambda inputs: says[:, None].expand(2, 3, inputs.shape[2])
    agent.relabel()
    agent._beta.copy_(torch.tensor([0.3, 0.0]))
    batch = Batch.of(agent.sample(agent.streams("test").uniform(8)), *agent.runner.sizes)
    expected = torch.tensor([3 + 0.3 * math.sqrt(14 / 3), 3.0])
    torch.testing.assert_close(batch.reward, expected[:, None].expand(2, 8))
    bonus = torch.tensor([0.3 * math.sqrt(14 / 3), 0.0])
    torch.testing.assert_close(agent.metrics()["exploration_bonus"], bonus)


def test_stored_uncertainties_and_rewards_are_of_the_same_networks(agent: Any) -> None:
    buffer = agent.replay_buffer
    assert buffer.written > buffer.capacity == 100
    expected = ensemble_std(agent, buffer.observation, buffer.action)
    torch.testing.assert_close(agent.uncertainty, expected)
    assert agent.uncertainty.min() > 0
    assert expected.std() > 1e-4
    rewards = agent.reward_model.mean(buffer.observation, buffer.action)
    torch.testing.assert_close(buffer.reward, rewards)


def test_the_critic_gradient_includes_the_bonus(
    agent: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    beta = BETA * (1 - RHO) ** LAST
    state = agent.sac_state()
    recorder = Recorder(state)
    monkeypatch.setattr(update_module, "adam_step", recorder)
    streams = agent.streams("test")
    drawn, uniform = streams.uniform(8), streams.uniform(8, 2 * agent.action_size)
    plain = Batch.of(PEBBLE.sample(agent, drawn), *agent.runner.sizes)
    logged = torch.zeros(2, len(LOGGED))
    with torch.no_grad():
        still = torch.zeros(())
        update_module.update(agent._constants, state, agent.sample(drawn), uniform, still, logged)
        pi = agent.distribution(plain.next_observation)
        action, log_prob = pi.action_and_log_prob(standard_normals(uniform)[0])
        q = torch.minimum(*agent.q(agent.target, plain.next_observation, action).unbind(1))
        std = ensemble_std(agent, plain.observation, plain.action)
        soft_value = q - agent.log_alpha.exp()[:, None] * log_prob
        y = plain.reward + beta * std + 0.99 * (1 - plain.terminated) * soft_value
    assert (beta * std).max() > 1e-3

    def losses() -> Tensor:
        return (
            0.5 * (agent.q(agent.critic, plain.observation, plain.action) - y[:, None]) ** 2
        ).mean(-1)

    torch.testing.assert_close(logged[:, 0], losses().detach().sum(-1))
    assert_is_derivative(recorder.gradients["critic"], agent.critic.layers, lambda: losses().sum())


def test_before_the_first_label_the_reward_is_the_state_entropy_of_pebble(agent: Any) -> None:
    agent.labels = agent.labels[:, :0]
    uniform = agent.streams("test").uniform(8)
    assert torch.equal(agent.sample(uniform), PEBBLE.sample(agent, uniform))
