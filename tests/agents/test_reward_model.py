"""Reward model without an agent, and its state in checkpoints."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from helpers.runs import MakeRun
from helpers.tiny import CPU, tiny_task
from torch import Tensor

from mujoco_sail.agents.reward_model import Objective, RewardModel
from mujoco_sail.core.objectives import log_likelihood
from mujoco_sail.core.state import flatten
from mujoco_sail.core.streams import Streams
from mujoco_sail.preferences.pairs import Pairs
from mujoco_sail.preferences.sessions import Session


def model(epochs: int = 3) -> RewardModel:
    """Reward model of two members with three networks each, for inputs of size 2."""
    return RewardModel(tiny_task(reward_epochs=epochs), 2, 3, 1e-2, Streams([0, 1], "test", CPU))


def pairs(count: int = 9) -> Pairs:
    """Pairs of segments of four steps; the first segment has larger inputs."""
    inputs = torch.rand(2, count, 2, 4, 2, generator=torch.Generator().manual_seed(0))
    inputs[:, :, 0] += 1
    valid = torch.ones(2, count, 2, 4)
    return Pairs(inputs, valid, torch.full_like(valid, torch.nan), torch.zeros(2, count, 2))


def test_an_objective_is_the_mean_likelihood_plus_its_terms() -> None:
    log_p = torch.tensor([[[-1.0, -3.0]], [[-2.0, -4.0]]])  # [2, 1, 2]
    assert Objective().value(log_p).tolist() == [[-2.0], [-3.0]]
    more = Objective().plus(lambda count: torch.full((2, 1), 10.0 * count))
    more = more.plus(lambda count: torch.tensor([[0.5], [0.25]]))
    assert more.value(log_p).tolist() == [[18.5], [17.25]]


def test_accuracy_excludes_ties(monkeypatch: pytest.MonkeyPatch) -> None:
    reward = model()
    margins = torch.tensor([[1.0, -1.0, 2.0, -0.5], [-1.0, -1.0, -2.0, 0.5]])
    monkeypatch.setattr(reward, "margin", lambda _: margins.unsqueeze(1).expand(2, 3, 4))
    labels = torch.tensor([[1.0, 1.0, 0.5, 0.0], [1.0, 0.0, 0.5, 0.5]])
    torch.testing.assert_close(reward.accuracy(pairs(4), labels), torch.tensor([2 / 3, 1 / 2]))


def test_a_fit_stops_per_member_at_the_accuracy_target() -> None:
    """The labels of member 0 are consistent, those of member 1 contradict each other."""
    reward, data = model(epochs=100), pairs()
    data = Pairs.joined([data, data])
    labels = torch.ones(2, 18)
    labels[1, 9:] = 0.0
    fitted = reward.fit(data, labels, Objective(), 0.97, Streams([0, 1], "order", CPU))
    assert reward.updates[0] < reward.updates[1] == 100 * 5  # 18 labels in batches of four
    assert reward.adam.trained.steps.tolist() == reward.updates.tolist()
    assert fitted.accuracy[0] >= 0.97
    assert fitted.accuracy[1] < 0.7
    assert reward.accuracy(data, labels)[0] == 1


def test_members_that_have_reached_the_target_are_no_longer_computed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("mujoco_sail.core.passes.CACHE_BYTES", 1)
    reward, data, computed = model(epochs=100), pairs(), []
    labels = torch.ones(2, 9)
    labels[1, ::2] = 0.0
    forward = reward.net.forward

    def recorded(x: Tensor, members: slice) -> Any:
        computed.append(members.start)
        return forward(x, members)

    monkeypatch.setattr(reward.net, "forward", recorded)
    reward.fit(data, labels, Objective(), 0.97, Streams([0, 1], "order", CPU))
    assert [computed.count(member) for member in (0, 1)] == reward.updates.tolist()
    assert reward.updates[0] < reward.updates[1]


def test_checkpoints_keep_the_established_names_of_the_reward_model(make_run: MakeRun) -> None:
    run = make_run([("pebble", 0)])
    agent: Any = run.members[0].spec.agent(run)
    tensors, _ = flatten(agent.state())
    grad_reward = {name for name in tensors if name.startswith("reward") and "net" not in name}
    moments = {f"reward_adam.{kind}.{i}" for kind in ("means", "squares") for i in range(8)}
    assert grad_reward == {"reward_updates", "reward_adam.steps", *moments}
    assert {f"reward_net.{i}" for i in range(8)} <= tensors.keys()
    saved = {name: value.clone() for name, value in tensors.items() if name.startswith("reward_")}
    agent.reward_model.net.flat.fill_(7)
    agent.reward_model.updates.fill_(7)
    tree = agent.state()
    tree["reward_net"] = {str(i): saved[f"reward_net.{i}"] for i in range(8)}
    agent.load({**tree, "reward_updates": saved["reward_updates"]})
    assert agent.reward_model.updates.tolist() == [0]
    assert torch.equal(agent.reward_model.net.parameters[0], saved["reward_net.0"])


def test_the_session_with_number_one_is_the_first() -> None:
    nothing = pairs(0), torch.zeros(2, 0)
    assert Session(1, *nothing).first
    assert not Session(2, *nothing).first


def test_every_network_sees_every_pair_once_per_epoch_in_an_order_of_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    reward, data, seen = model(epochs=2), pairs(), []
    data.inputs[..., 0] = torch.arange(9.0).view(1, 9, 1, 1)  # the number of the pair
    rewards = reward.rewards

    def recorded(inputs: Tensor) -> Tensor:
        seen.append(inputs[..., 0, 0, 0])
        return rewards(inputs)

    labels = torch.ones(2, 9)
    labels[:, ::2] = 0
    reward.adam.learning_rate = 1e-12
    log_p = log_likelihood(reward.margin(data), labels[:, None])
    monkeypatch.setattr(reward, "rewards", recorded)
    fitted = reward.fit(data, labels, Objective(), 1.0, Streams([0, 1], "order", CPU))
    epochs = [torch.cat(seen[first : first + 3], -1) for first in (0, 3)]  # [2, 3, 9]
    for order in epochs:
        assert torch.equal(order.sort(-1).values, torch.arange(9.0).expand(2, 3, 9))
    assert len(torch.cat(epochs).flatten(0, 1).unique(dim=0)) == 12
    torch.testing.assert_close(fitted.loss, -log_p.mean((1, 2)))


def test_padding_does_not_count_in_a_margin() -> None:
    reward, data = model(), pairs()
    data.valid[:, :, 0, 2:] = 0
    rewards = reward.rewards(data.inputs[:, None])
    expected = rewards[..., 0, :2].sum(-1) - rewards[..., 1, :].sum(-1)
    torch.testing.assert_close(reward.margin(data), expected)


def test_a_target_of_all_labels_can_be_reached() -> None:
    reward = model(epochs=100)
    reward.fit(pairs(), torch.ones(2, 9), Objective(), 1.0, Streams([0, 1], "order", CPU))
    assert (reward.updates < 300).all()  # nine labels in batches of four
