"""SURF: PEBBLE with pseudo-labels and temporal cropping."""

from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.gradients import assert_is_derivative
from helpers.neutral import assert_is_pebble, assert_neutral_member_is_pebble
from helpers.runs import MakeRun, trained, trained_once
from helpers.sessions import newest_session
from torch import Tensor

from mujoco_sail.agents.reward_model import whole_segments
from mujoco_sail.core.objectives import log_likelihood
from mujoco_sail.core.streams import Streams
from mujoco_sail.preferences.pairs import Pairs, crops

NEUTRAL = {"unlabelled_weight": 0.0, "shortest_crop": 1.0}
WEIGHT = 0.7


@pytest.fixture
def agent(make_run: MakeRun, float64: None) -> Any:
    """A trained stack of two members whose networks have confident predictions."""
    settings = {"unlabelled_weight": WEIGHT, "confidence": 0.6, "shortest_crop": 0.7}
    run = make_run([("surf", 0), ("surf", 1)], settings={"surf": settings})
    return trained_once(run)


def margins(agent: Any, pairs: Pairs, steps: Tensor) -> Tensor:
    """R(sigma_1) - R(sigma_2) by every network, [M, E, P], over a mask [M, E, P, 2, T]."""
    rewards = agent.reward_model.rewards(pairs.inputs[:, None]) * steps
    return rewards[..., 0, :].sum(-1) - rewards[..., 1, :].sum(-1)


def test_neutral_settings_equal_pebble_bit_for_bit(make_run: MakeRun) -> None:
    assert_is_pebble(make_run, "surf", NEUTRAL)


def test_a_neutral_member_equals_pebble_in_a_stack_with_other_settings(
    make_run: MakeRun, tmp_path: Path
) -> None:
    assert_neutral_member_is_pebble(make_run, "surf", NEUTRAL, {"confidence": 0.5}, tmp_path)


@pytest.mark.parametrize(
    "changed", [{"unlabelled_weight": 0.0}, {"shortest_crop": 1.0, "confidence": 0.5}]
)
def test_crops_and_pseudo_labels_each_change_the_parameters(
    make_run: MakeRun, changed: dict[str, float]
) -> None:
    one = trained(make_run([("surf", 0)], settings={"surf": changed}))["surf", 0]
    other = trained(make_run([("pebble", 0)]))["pebble", 0]
    assert not all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_the_pseudo_label_terms_equal_hand_computed_ones(agent: Any) -> None:
    """Returns 3 : 0, 1 : 2 and 0 : 4; the first and the last have a confidence above 0.9."""
    agent.reward_model.rewards = lambda inputs: inputs[..., 0].expand(-1, 3, -1, -1, -1)
    agent.sure_margin = torch.full((2, 1, 1), math.log(0.9 / 0.1))
    agent.shortest_crop = torch.ones(2)
    rewards = torch.tensor(
        [[[1.0, 2.0], [0.0, 0.0]], [[0.5, 0.5], [1.0, 1.0]], [[0.0, 0.0], [4.0, 0.0]]]
    )
    inputs = rewards.expand(2, 3, 2, 2)
    ones, unknown = torch.ones_like(inputs), torch.full_like(inputs, torch.nan)
    pairs = Pairs(inputs[..., None], ones, unknown, torch.zeros(2, 3, 2))
    expected = torch.tensor([-math.log1p(math.exp(-3)), 0.0, -math.log1p(math.exp(-4))])
    terms = agent.pseudo_log_likelihood(pairs, whole_segments)
    torch.testing.assert_close(terms, expected.expand(2, 3, 3))

    agent.unlabelled = lambda count, streams: pairs
    log_p = torch.tensor([-1.0, -3.0]).expand(2, 3, 2)
    objective = agent.reward_objective(newest_session(agent)).value(log_p)
    torch.testing.assert_close(objective, (-2 + WEIGHT * expected.mean()).expand(2, 3))


def test_a_network_labels_pairs_with_confidence_above_the_threshold(agent: Any) -> None:
    agent.sure_margin = torch.tensor([math.log(0.9 / 0.1), math.log(0.6 / 0.4)])[:, None, None]
    probability = torch.tensor([0.91, 0.89, 0.61, 0.5, 0.39, 0.11, 0.09]).expand(2, 3, 7)
    sure, label = agent.pseudo_labels(torch.logit(probability))
    assert sure[0].tolist() == [[1, 0, 0, 0, 0, 0, 1]] * 3
    assert sure[1].tolist() == [[1, 1, 1, 0, 1, 1, 1]] * 3
    assert label[0].tolist() == [[1, 1, 1, 0, 0, 0, 0]] * 3


def test_the_reward_gradient_equals_that_of_both_cross_entropies(agent: Any) -> None:
    """Pseudo-labels are constants in the finite differences, too."""
    shape = agent.labels.shape[1]
    unlabelled = agent.unlabelled(4 * shape, agent.streams("fixed"))
    agent.unlabelled = lambda count, streams: unlabelled
    ones = [pairs.valid[:, None].expand(-1, 3, -1, -1, -1) for pairs in (agent.pairs, unlabelled)]
    session = newest_session(agent)
    crop_streams, whole = (
        agent.streams("crops", session.number),
        torch.ones_like(agent.shortest_crop),
    )
    steps = [crops(one, agent.shortest_crop, whole, crop_streams) for one in ones]
    assert all((s.sum(-1) > 0).all() and (s < 1).any() for s in steps)
    with torch.no_grad():
        probability = torch.sigmoid(margins(agent, unlabelled, ones[1]))
        sure = torch.maximum(probability, 1 - probability) > 0.6
        preferred = (probability > 0.5).double()
    assert 0 < sure.double().mean() < 1

    def objective() -> Tensor:
        supervised = log_likelihood(margins(agent, agent.pairs, steps[0]), agent.labels[:, None])
        pseudo = log_likelihood(margins(agent, unlabelled, steps[1]), preferred)
        return (supervised.mean(-1) + WEIGHT * (sure * pseudo).mean(-1)).sum()

    rewards = agent.reward_model.rewards(agent.pairs.inputs[:, None])
    fit = agent.reward_objective(session)
    stated = fit.value(fit.likelihood(rewards, ones[0], agent.labels[:, None])).sum()
    torch.testing.assert_close(stated, objective())
    parameters = agent.reward_model.net.parameters
    gradients = torch.autograd.grad(stated, parameters)
    assert_is_derivative(gradients, parameters, objective)


def test_a_fit_uses_mu_unlabelled_pairs_per_label_and_no_task_reward(
    agent: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts: list[int] = []
    kept: list[Pairs] = []
    draw = agent.unlabelled

    def counting(count: int, streams: Streams) -> Pairs:
        counts.append(count)
        kept.append(draw(count, streams))
        return kept[-1]

    agent.unlabelled = counting
    session = newest_session(agent)
    learned = agent.reward_model.net, agent.reward_model.adam
    before = [copy.deepcopy(part.state()) for part in learned]
    agent.fit_reward(session)
    # Eight labels in batches of four, three epochs; then the pairs for the logged fraction.
    assert counts == [16] * 6 + [40]
    assert len(torch.stack([pairs.start.flatten() for pairs in kept[:6]]).unique(dim=0)) == 6
    assert all(pairs.valid.shape[-1] == agent.pairs.valid.shape[-1] for pairs in kept)
    once = agent.reward_model.net.flat.clone()

    agent.replay_buffer.task_reward.fill_(torch.nan)
    for part, state in zip(learned, before, strict=True):
        part.load(state)
    agent.fit_reward(session)
    assert torch.equal(agent.reward_model.net.flat, once)


def test_the_logged_share_is_the_fraction_of_confident_predictions_for_new_pairs(
    agent: Any,
) -> None:
    agent.fit_reward(newest_session(agent))
    fresh = agent.unlabelled(40, agent.streams("sure", agent.runner.feedback.sessions))
    probability = torch.sigmoid(agent.reward_model.margin(fresh))
    share = (torch.maximum(probability, 1 - probability) > 0.6).double().mean((1, 2))
    torch.testing.assert_close(agent.metrics()["sure_predictions"], share)
    assert 0 < share.min() <= share.max() < 1
