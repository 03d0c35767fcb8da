"""MRN: bilevel gradient, coefficient and training."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.neutral import assert_is_pebble
from helpers.runs import MakeRun, rows, trained, trained_once
from helpers.tiny import tiny_task
from torch import Tensor
from torch.nn import functional

from mujoco_sail.core.passes import forward, output_derivative
from mujoco_sail.core.replay_buffer import Batch

# Steps at 80, after the first session, 90 and 100; the second session, at 110, is the last.
EVERY = {"meta_every": 10}
NAMES = [("mrn", 0), ("mrn", 1)]
SETTINGS = {"mrn": EVERY}


def agent_of(make_run: MakeRun, settings: dict[str, Any], **changes: Any) -> Any:
    return trained_once(make_run(NAMES, tiny_task(**changes), settings={"mrn": settings}))


# --- the gradient ---


def critics(parameters: list[Tensor], inputs: Tensor) -> Tensor:
    """Q of every critic, [M, 2, B], from parameters [M, 2, ...] and inputs [M, B, O + A]."""
    h = inputs.unsqueeze(1)
    for weight, bias in zip(parameters[:-2:2], parameters[1:-2:2], strict=True):
        h = torch.relu(h @ weight + bias)
    return (h @ parameters[-2] + parameters[-1]).squeeze(-1)


def rewards(agent: Any, inputs: Tensor) -> Tensor:
    """Mean of the ensemble, [M, B]."""
    h = inputs.unsqueeze(1)
    parameters = agent.reward_model.net.parameters
    for weight, bias in zip(parameters[:-2:2], parameters[1:-2:2], strict=True):
        h = functional.leaky_relu(h @ weight + bias)
    return torch.tanh(h @ parameters[-2] + parameters[-1]).squeeze(-1).mean(1)


def unrolled(agent: Any, batch: Batch, noise: Tensor, rate: float) -> Tensor:
    """Sum of L over members after a virtual step by autograd, differentiable by nu."""
    inputs = torch.cat([batch.observation, batch.action], -1)
    pi = agent.distribution(batch.next_observation)
    action, log_prob = pi.action_and_log_prob(noise)
    next_inputs = torch.cat([batch.next_observation, action], -1)
    next_q = critics(agent.target.parameters, next_inputs).amin(1)
    soft_value = (next_q - agent.log_alpha.exp()[:, None] * log_prob).detach()
    y = rewards(agent, inputs) + 0.99 * (1 - batch.terminated) * soft_value
    theta = [p.detach().requires_grad_() for p in agent.critic.parameters]
    loss = 0.5 * (critics(theta, inputs) - y[:, None]).square().mean(-1).sum()
    gradients = torch.autograd.grad(loss, theta, create_graph=True)
    virtual = [p - rate * g for p, g in zip(theta, gradients, strict=True)]
    first, second = (critics(virtual, agent.pairs.inputs[:, :, side, 0]) for side in (0, 1))
    label = agent.labels[:, None].expand_as(first)
    outer = functional.binary_cross_entropy_with_logits(first - second, label, reduction="none")
    return outer.mean(-1).sum()


@pytest.fixture(params=[1e-3, 0.3])
def case(make_run: MakeRun, float64: None, request: pytest.FixtureRequest) -> Any:
    """A stack of two members, a batch with terminations, noise, and the virtual learning rate."""
    agent = agent_of(make_run, {**EVERY, "virtual_rate": request.param})
    streams = agent.streams("test")
    batch = Batch.of(agent.replay_buffer.sample(streams.uniform(16)), *agent.runner.sizes)
    batch.terminated[:, ::3] = 1.0
    agent.labels[:, 0] = 0.5
    return agent, batch, streams.normal(16, agent.action_size), request.param


def test_the_gradient_equals_that_of_an_unrolled_step(case: Any) -> None:
    agent, batch, noise, rate = case
    stated = agent.meta_gradients(batch, noise)
    value = unrolled(agent, batch, noise, rate)
    expected = torch.autograd.grad(value, agent.reward_model.net.parameters)
    for one, other in zip(stated, expected, strict=True):
        scale = float(other.abs().max())
        assert scale > 0
        torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-8 * scale)
    torch.testing.assert_close(agent.logged["outer_loss"].sum(), value.detach())


def test_the_gradient_equals_the_slope_of_the_outer_loss(case: Any) -> None:
    """Central differences of the loss after a virtual step."""
    agent, batch, noise, _ = case
    gradients = agent.meta_gradients(batch, noise)
    norm = math.sqrt(sum(float(g.square().sum()) for g in gradients))
    size = 1e-4

    def loss(distance: float) -> float:
        with torch.no_grad():
            for p, g in zip(agent.reward_model.net.parameters, gradients, strict=True):
                p.add_(g, alpha=distance / norm)
            agent.meta_gradients(batch, noise)
            for p, g in zip(agent.reward_model.net.parameters, gradients, strict=True):
                p.sub_(g, alpha=distance / norm)
        return float(agent.logged["outer_loss"].sum())

    slope = (loss(size) - loss(-size)) / (2 * size)
    assert slope == pytest.approx(norm, rel=1e-5)
    assert loss(-size) < loss(0)


def test_the_directional_derivative_equals_a_hand_computed_one() -> None:
    """h = relu(2 x + 1), out = h / 2 + 7, at x = 1 and at x = -1, where h = 0."""
    parameters = [torch.tensor([[[v]]]) for v in (2.0, 1.0, 0.5, 7.0)]
    direction = [torch.tensor([[[v]]]) for v in (1.0, 2.0, 3.0, 4.0)]
    out, inputs = forward(parameters, torch.tensor([[[1.0], [-1.0]]]))
    assert out.flatten().tolist() == [8.5, 7.0]
    along = output_derivative(parameters, inputs, direction)
    # 0.5 (1 x + 2) + 3 h + 4 with h = 3, and 4 alone.
    assert along.flatten().tolist() == [0.5 * 3 + 3 * 3 + 4, 4.0]


def test_only_the_first_step_of_a_segment_affects_the_gradient(case: Any) -> None:
    """Equation 6 uses Q of the first step only."""
    agent, batch, noise, _ = case
    before = agent.meta_gradients(batch, noise)
    agent.pairs.inputs[:, :, :, 1:] += 1.0
    for one, other in zip(before, agent.meta_gradients(batch, noise), strict=True):
        assert torch.equal(one, other)
    agent.pairs.inputs[:, :, 0, 0] += 1.0
    assert not torch.equal(before[0], agent.meta_gradients(batch, noise)[0])


def test_the_meta_step_is_an_adam_step_scaled_by_the_weight(
    make_run: MakeRun, float64: None
) -> None:
    agent = agent_of(make_run, EVERY)
    weights = agent.meta_weight = torch.tensor([1.0, 0.5])
    net, rate = agent.reward_model.net, agent.settings.reward_learning_rate
    agent.meta_adam.reset()
    kept: list[list[Tensor]] = []
    meta_gradients = agent.meta_gradients
    agent.meta_gradients = lambda *args: kept.append(meta_gradients(*args)) or kept[-1]
    before = [p.detach().clone() for p in net.parameters]
    agent.meta_step(7)
    for old, new, g in zip(before, net.parameters, kept[0], strict=True):
        # Adam's first step is the sign of the gradient if the gradient is much larger than 1e-8.
        direction = g / (g.abs() + 1e-8)
        expected = old - weights.view(2, *[1] * (g.dim() - 1)) * rate * direction
        torch.testing.assert_close(new.detach(), expected)
    buffer = agent.replay_buffer
    held = slice(len(buffer))
    fresh = agent.reward_model.mean(buffer.observation[:, held], buffer.action[:, held])
    torch.testing.assert_close(buffer.reward[:, held], fresh)


# --- the coefficient ---


def columns(text: str, dropped: str) -> str:
    lines = [line.split(",") for line in text.splitlines()]
    at = lines[0].index(dropped)
    return "\n".join(",".join(cells[:at] + cells[at + 1 :]) for cells in lines)


def test_a_weight_of_zero_equals_pebble_bit_for_bit(make_run: MakeRun) -> None:
    one, other = assert_is_pebble(make_run, "mrn", {**EVERY, "meta_weight": 0.0})
    text = columns(rows(one, 0, "training.csv"), "outer_loss")
    assert text == rows(other, 0, "training.csv")


def test_a_member_of_weight_zero_equals_pebble_in_a_stack_with_other_weights(
    make_run: MakeRun, tmp_path: Path
) -> None:
    """Uses a separate recipe, because members of one agent share their settings."""
    idle = tmp_path / "idle.toml"
    idle.write_text('title = "idle"\nbase = "mrn"\nmeta_weight = 0.0\nmeta_every = 10\n')
    mixed = make_run([("mrn", 0), (str(idle), 3), ("mrn", 5)], settings=SETTINGS)
    parameters = trained(mixed)
    pebble = make_run([("pebble", 3)])
    for a, b in zip(parameters["idle", 3], trained(pebble)["pebble", 3], strict=True):
        assert torch.equal(a, b)
    alone = trained(make_run([("mrn", 5)], settings=SETTINGS))["mrn", 5]
    assert all(torch.equal(a, b) for a, b in zip(parameters["mrn", 5], alone, strict=True))
    text = columns(rows(mixed, 1, "training.csv"), "outer_loss")
    assert text == rows(pebble, 0, "training.csv")


# --- training ---


def test_the_bilevel_step_is_taken_when_due_until_the_last_session(
    make_run: MakeRun,
) -> None:
    run = make_run(NAMES, settings=SETTINGS)
    agent: Any = run.members[0].spec.agent(run)
    steps: list[int] = []
    meta_step: Callable[[int], None] = agent.meta_step
    agent.meta_step = lambda step: (steps.append(step), meta_step(step))
    agent.train()
    assert steps == [80, 90, 100]
    assert agent.updates == 150 - 60 + 1 + agent.settings.reset_updates
    assert agent.meta_adam.trained.steps.tolist() == [3, 3]
