"""REED: temporal consistency of the reward networks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.gradients import assert_is_derivative
from helpers.neutral import assert_is_pebble, assert_neutral_member_is_pebble
from helpers.runs import MakeRun, members_of, results_of, trained_once
from helpers.tiny import CPU, tiny_task
from torch import Tensor
from torch.nn import functional

from mujoco_sail.agents.reed import normalised
from mujoco_sail.core.replay_buffer import Batch
from mujoco_sail.training.run import Run

FEW = {"consistency_updates": 3, "consistency_batch_size": 12, "projection_units": 9}
HEADS = ("transition", "projector", "predictor_in", "predictor_out")


@pytest.fixture
def agent(make_run: MakeRun, float64: None) -> Any:
    """A trained stack of two members."""
    return trained_once(make_run([("reed", 0), ("reed", 1)], settings={"reed": FEW}))


def linear(head: Any, x: Tensor) -> Tensor:
    weight, bias = head.parameters
    return x @ weight + bias


def target_of(agent: Any, batch: Batch) -> Tensor:
    """Projected first hidden layer at the next state and action zero."""
    weight, bias = agent.reward_model.net.parameters[:2]
    rows = weight[..., : batch.next_observation.shape[-1], :]
    first = functional.leaky_relu(batch.next_observation @ rows + bias)
    return linear(agent.heads["projector"], first)


def similarity_to(agent: Any, batch: Batch, target: Tensor) -> Tensor:
    """Cosine of prediction and target in PyTorch's layers, [M, E]."""
    *hidden, _, _ = agent.reward_model.net.parameters
    h = torch.cat([batch.observation, batch.action], -1)
    for weight, bias in zip(hidden[::2], hidden[1::2], strict=True):
        h = functional.leaky_relu(h @ weight + bias)
    projected = linear(agent.heads["projector"], linear(agent.heads["transition"], h))
    weight, offset = agent.heads["predictor_in"].parameters
    narrow = (projected @ weight).movedim(2, 0)  # [B, M, E, units]
    normal = functional.batch_norm(narrow.flatten(1), None, None, training=True)
    hidden_h = torch.relu(normal.view_as(narrow).movedim(0, 2) + offset)
    predicted = linear(agent.heads["predictor_out"], hidden_h)
    cosine = (predicted * target).sum(-1) / (predicted.norm(dim=-1) * target.norm(dim=-1))
    return cosine.mean(-1)


def learnt(agent: Any) -> list[Tensor]:
    """Hidden layers of the reward and all heads, in this order."""
    heads = [p for name in HEADS for p in agent.heads[name].parameters]
    return [*agent.reward_model.net.parameters[:-2], *heads]


def test_no_updates_equal_pebble_bit_for_bit(make_run: MakeRun) -> None:
    assert_is_pebble(make_run, "reed", {"consistency_updates": 0})


def test_a_member_without_updates_equals_pebble_in_a_stack_with_others(
    make_run: MakeRun, tmp_path: Path
) -> None:
    assert_neutral_member_is_pebble(
        make_run, "reed", {"consistency_updates": 0}, {"consistency_updates": 3}, tmp_path
    )


def test_files_of_a_member_do_not_depend_on_the_updates_of_another(tmp_path: Path) -> None:
    (one,) = members_of([("reed", 3)], {"reed": FEW})
    (other,) = members_of([("reed", 4)], {"reed": {**FEW, "consistency_updates": 6}})
    written = []
    for stack in ([one], [one, other]):
        run = Run(tiny_task(), stack, CPU, tmp_path / str(len(stack)), lambda _: None)
        run.execute()
        written.append(results_of(run))
    assert written[0] == written[1][: len(written[0])]


def test_the_gradient_equals_differences_with_a_constant_target(agent: Any) -> None:
    batch = agent.transitions(agent.streams("test"))
    value = agent.similarity(batch)
    with torch.no_grad():
        target = target_of(agent, batch)
    torch.testing.assert_close(value, similarity_to(agent, batch, target))
    parameters = learnt(agent)
    gradients = torch.autograd.grad(value.sum(), parameters)
    assert all(g.abs().max() > 1e-6 for g in gradients[::2])
    assert_is_derivative(gradients, parameters, lambda: similarity_to(agent, batch, target).sum())


def test_no_gradient_flows_through_the_target(agent: Any) -> None:
    batch = agent.transitions(agent.streams("test"))
    shared = [*agent.reward_model.net.parameters[:2], *agent.heads["projector"].parameters]
    stated = torch.autograd.grad(agent.similarity(batch).sum(), shared)
    moving = target_of(agent, batch)
    without, through = (
        torch.autograd.grad(similarity_to(agent, batch, target).sum(), shared)
        for target in (moving.detach(), moving)
    )
    for one, stopped, other in zip(stated, without, through, strict=True):
        torch.testing.assert_close(one, stopped)
        assert not torch.allclose(one, other)


def test_the_similarity_equals_a_hand_computed_one(agent: Any) -> None:
    """With weights of zero, prediction and target are the biases: cos((3, 4), (4, 3)) = 24/25."""
    with torch.no_grad():
        for name, values in (("predictor_out", (3.0, 4.0)), ("projector", (4.0, 3.0))):
            weight, bias = agent.heads[name].parameters
            for p in (weight, bias):
                p.zero_()
            bias[..., :2] = torch.tensor(values)
    value = agent.similarity(agent.transitions(agent.streams("test")))
    torch.testing.assert_close(value, torch.full((2, 3), 24 / 25))


def test_a_batch_is_normalised_to_mean_zero_and_variance_one() -> None:
    """Mean 3 and variance 4; a constant column is 0."""
    x = torch.tensor([[1.0, 7.0], [5.0, 7.0]])
    torch.testing.assert_close(normalised(x), torch.tensor([[-1.0, 0.0], [1.0, 0.0]]))


def test_members_take_their_number_of_updates_and_the_output_layer_none(agent: Any) -> None:
    net = agent.reward_model.net
    agent.consistency_updates = torch.tensor([2, 0])
    before = [p.detach().clone() for p in net.parameters]
    heads = [p.detach().clone() for p in learnt(agent)[len(before) - 2 :]]
    agent.learn_transitions(7)
    rate = agent.settings.consistency_rate
    for old, new in zip(before[:-2] + heads, learnt(agent), strict=True):
        assert torch.equal(old[1], new[1])
        moved = float((new[0] - old[0]).detach().abs().max())
        assert moved <= 2 * rate * 1.001  # two steps of Adam
        # The normalisation removes the biases of "transition" and "projector".
        biases = (agent.heads[name].parameters[1] for name in ("transition", "projector"))
        assert (moved > rate) != any(new is bias for bias in biases)
    for old, new in zip(before[-2:], net.parameters[-2:], strict=True):
        assert torch.equal(old, new)
    logged = agent.metrics()["next_state_similarity"]
    assert logged.isnan().tolist() == [False, True]


def test_every_network_draws_its_own_transitions_from_the_whole_buffer(agent: Any) -> None:
    agent.settings = replace(agent.settings, consistency_batch_size=40)
    observation = agent.transitions(agent.streams("test")).observation  # [M, E, B, O]
    stored = agent.replay_buffer.observation[:, None]
    at = (observation.unsqueeze(3) == stored.unsqueeze(2)).all(-1).long().argmax(-1)
    assert at.amin((1, 2)).max() < 30
    assert at.amax((1, 2)).min() > 120
    for one, other in ((0, 1), (0, 2), (1, 2)):
        assert not torch.equal(at[:, one], at[:, other])


def test_every_update_of_every_session_has_new_transitions_and_the_last_one_is_logged(
    agent: Any,
) -> None:
    seen, values = [], []
    similarity = agent.similarity

    def watched(batch: Batch) -> Tensor:
        seen.append(batch.observation.sum((1, 2, 3)))
        values.append(similarity(batch))
        return values[-1]

    agent.similarity = watched
    for session in (7, 8):
        agent.learn_transitions(session)
        torch.testing.assert_close(agent.logged["next_state_similarity"], values[-1].mean(1))
    assert len(torch.stack(seen).unique(dim=0)) == 6


def test_updates_increase_the_similarity_without_rewards(agent: Any) -> None:
    batch = agent.transitions(agent.streams("test"))
    before = agent.similarity(batch).detach()
    agent.consistency_updates = torch.tensor([300, 300])
    for rewards in (agent.replay_buffer.reward, agent.replay_buffer.task_reward):
        rewards.fill_(torch.nan)
    agent.learn_transitions(7)
    assert (agent.similarity(batch) > before + 0.05).all()
    assert agent.reward_model.net.flat.isfinite().all()


def test_transitions_are_learned_before_the_queries_of_every_session(make_run: MakeRun) -> None:
    run = make_run([("reed", 0)], settings={"reed": FEW})
    agent: Any = run.members[0].spec.agent(run)
    calls: list[tuple[int, int]] = []
    learn = agent.learn_transitions

    def counting(step: int) -> None:
        calls.append((step, agent.labels.shape[1]))
        learn(step)

    agent.learn_transitions = counting
    agent.train()
    assert calls == [(80, 0), (110, 4)]
