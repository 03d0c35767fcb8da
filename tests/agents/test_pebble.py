"""PEBBLE: relabelling and reward fitting."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers.runs import MakeRun, pebble

from mujoco_sail.core.objectives import log_likelihood


def test_relabelling_covers_the_whole_replay_buffer_after_it_wrapped(make_run: MakeRun) -> None:
    agent = pebble(make_run, replay_capacity=70)
    assert agent.replay_buffer.written > agent.replay_buffer.capacity
    agent.replay_buffer.reward.fill_(99.0)
    agent.relabel()
    buffer = agent.replay_buffer
    expected = agent.reward_model.mean(buffer.observation, buffer.action)
    assert torch.equal(agent.replay_buffer.reward, expected)
    assert agent.replay_buffer.reward.abs().max() <= 1


def test_relabelling_goes_through_all_parts_of_the_replay_buffer(
    make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mujoco_sail.agents.pebble.CHUNK", 32)
    agent = pebble(make_run, replay_capacity=70)
    buffer = agent.replay_buffer
    buffer.reward.fill_(99.0)
    agent.relabel()
    expected = agent.reward_model.mean(buffer.observation, buffer.action)
    torch.testing.assert_close(buffer.reward, expected)  # parts of other sizes round otherwise


def test_the_reward_has_a_learning_rate_of_its_own(make_run: MakeRun) -> None:
    agent = pebble(make_run)
    rate = agent.settings.reward_learning_rate
    assert agent.reward_model.adam.learning_rate == rate != agent.task.learning_rate


def test_ties_train_towards_equal_returns(make_run: MakeRun) -> None:
    """A teacher that considers all pairs equal labels 0.5, and the fit reduces the margin to 0."""
    agent = pebble(
        make_run,
        teacher="equal",
        reward_range=[-100.0, 1.0],
        reward_epochs=200,
        **{"oracle.equal": 50.0},
    )
    assert (agent.labels == 0.5).all()
    assert agent.logged["reward_accuracy"].isnan().all()
    assert (agent.reward_model.updates == 600).all()  # 200 epochs of one batch, then of two
    probability = agent.reward_model.probability(agent.pairs)
    loss = -log_likelihood(torch.logit(probability), agent.labels[:, None]).mean()
    assert loss.item() == pytest.approx(np.log(2), abs=2e-3)


@pytest.mark.parametrize("name", ["pebble", "qpa"])
def test_a_fit_stops_at_the_accuracy_target_on_whole_segments(make_run: MakeRun, name: str) -> None:
    agent = pebble(make_run, name, reward_epochs=300)
    assert (agent.reward_model.updates < 900).all()  # 300 epochs of one batch, then of two
    assert (agent.logged["reward_accuracy"] >= agent.settings.accuracy_target).all()
    assert agent.reward_model.accuracy(agent.pairs, agent.labels) >= 0.9
