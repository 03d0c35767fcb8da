"""T2 in a fit of the reward: factor, weight and logged quantities."""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import pandas as pd
import pytest
import torch
from helpers.runs import MakeRun, rows, trained_agent, trained_once
from helpers.sessions import kept_terms, newest_session
from helpers.tiny import tiny_task
from torch import Tensor

from mujoco_sail.agents import sail as sail_module
from mujoco_sail.agents.sail import T2_LOGGED
from mujoco_sail.agents.sampling_term import SamplingTerm, centred, halves
from mujoco_sail.core.objectives import log_likelihood
from mujoco_sail.core.streams import Streams
from mujoco_sail.preferences.pairs import Pairs
from mujoco_sail.preferences.sessions import Session
from mujoco_sail.system.errors import UserError
from mujoco_sail.training.run import Run

LAMBDA = 0.3


def sail(make_run: MakeRun, train: Callable[[Run], Any] = trained_once, **settings: Any) -> Any:
    """A trained SAIL stack of two members."""
    return train(
        make_run(
            [("sail", 0), ("sail", 1)],
            tiny_task(labels=24, labels_per_session=8),
            settings={"sail": {"lambda": LAMBDA, **settings}},
        )
    )


class Weighed(NamedTuple):
    """T2 of the newest session at the current parameters, and its weight, [M, E]."""

    session: Session
    term: SamplingTerm
    weight: Tensor


def weigh_again(agent: Any) -> Weighed:
    session = newest_session(agent)
    with pytest.MonkeyPatch.context() as patch:
        terms, weights = kept_terms(agent, patch)
        agent.reward_objective(session)
    return Weighed(session, *terms, *weights)


def norms(objective: Tensor, agent: Any) -> Tensor:
    """Norm of each network's gradient, [M, E]."""
    gradients = torch.autograd.grad(objective.sum(), agent.reward_model.net.parameters)
    return torch.cat([g.flatten(2) for g in gradients], -1).norm(dim=-1)


def likelihood(agent: Any, pairs: Pairs, labels: Tensor) -> Tensor:
    rewards = agent.reward_model.rewards(pairs.inputs[:, None]) * pairs.valid[:, None]
    returns = rewards.sum(-1)
    return log_likelihood(returns[..., 0] - returns[..., 1], labels[:, None])


def test_the_unit_share_is_the_ratio_of_the_gradient_norms(
    make_run: MakeRun, float64: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sail_module, "DRAWS", 300)  # fewer leave noise in the norm
    agent = sail(make_run, trained_agent)
    session, term, weight = weigh_again(agent)
    pairs, labels = session.pairs, session.labels
    t1 = norms(likelihood(agent, agent.pairs, agent.labels).mean(-1), agent)
    log_p = likelihood(agent, pairs, labels).detach()
    factor = log_p - (log_p.sum(-1, keepdim=True) - log_p) / 7
    observation = pairs.inputs[..., : agent.runner.sizes[0]]
    noise = agent.streams("many draws").normal(300, *term.pi.mean.shape[1:])
    rewards = agent.reward_model.rewards
    gap = rewards(pairs.inputs[:, None])
    for draw in noise.unbind(1):
        by_policy = torch.cat([observation, term.pi.action(draw)], -1)
        gap = gap - rewards(by_policy[:, None]) / 300
    t2 = norms((factor * gap.mean(-1).sum(-1)).mean(-1), agent)
    torch.testing.assert_close(weight * t2 / t1, torch.full((2, 3), LAMBDA), rtol=0.06, atol=0)
    torch.testing.assert_close(agent.logged["t2_share"], torch.full((2,), LAMBDA))
    torch.testing.assert_close(agent.logged["t1_norm"], t1.square().sum(1).sqrt())


def test_the_unit_exact_is_steps_over_networks_and_temperature(make_run: MakeRun) -> None:
    agent = sail(make_run, lambda_unit="exact")
    weight = weigh_again(agent).weight
    expected = LAMBDA * 10 / (3 * agent.log_alpha.exp())
    torch.testing.assert_close(weight, expected[:, None].expand(2, 3))
    torch.testing.assert_close(agent.logged["t2_exact_weight"], expected / LAMBDA)


def test_the_unit_fixed_is_one(make_run: MakeRun) -> None:
    agent = sail(make_run, lambda_unit="fixed")
    assert weigh_again(agent).weight.unique().tolist() == [pytest.approx(LAMBDA)]


def test_weight_and_factor_are_constant_during_a_fit(
    make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent = sail(make_run)
    before, weighed = agent.reward_model.net.flat.clone(), weigh_again(agent)
    terms, weights = kept_terms(agent, monkeypatch)
    agent.fit_reward(newest_session(agent))
    assert not torch.equal(before, agent.reward_model.net.flat)
    # Computed once per fit, before its first step.
    assert torch.equal(weighed.weight, *weights)
    assert torch.equal(weighed.term.factor, terms[0].factor)


def test_a_permuted_factor_has_the_same_values_and_a_reversed_one_the_opposite_sign() -> None:
    log_p = torch.randn(2, 3, 50, generator=torch.Generator().manual_seed(0))

    def factor(control: Any) -> Tensor:
        return centred(log_p, control, Streams([0, 1], "test", torch.device("cpu")))

    plain = factor("none")
    torch.testing.assert_close(plain, (log_p - log_p.mean(-1, keepdim=True)) * 50 / 49)
    permuted = factor("permuted")
    assert torch.equal(permuted.sort(-1).values, plain.sort(-1).values)
    assert (permuted == plain).float().mean() < 0.1
    # All networks of a member have the same permutation.
    at = (permuted[0, 0, :, None] == plain[0, 0]).int().argmax(-1)
    assert torch.equal(permuted[0], plain[0][:, at])
    assert torch.equal(factor("reversed"), -plain)


def test_halves_are_disjoint_and_cover_all_pairs() -> None:
    for count in (4, 7):
        places = [list(range(count))[half] for half in halves(count)]
        assert sorted(places[0] + places[1]) == list(range(count))
        assert len(places[1]) - len(places[0]) == count % 2


def test_a_session_of_one_label_has_t2_without_a_baseline(make_run: MakeRun) -> None:
    task = tiny_task(labels=4, labels_per_session=1, teacher="oracle")
    run = make_run([("sail", 0)], task, settings={"sail": {"lambda": LAMBDA}})
    agent: Any = run.members[0].spec.agent(run)
    agent.train()
    session, term, weight = weigh_again(agent)
    log_p = log_likelihood(agent.reward_model.margin(session.pairs), session.labels.unsqueeze(1))
    torch.testing.assert_close(term.factor, log_p, rtol=1e-4, atol=1e-4)
    assert session.labels.shape[1] == 1
    assert (weight > 0).all()
    assert agent.logged["t2_signal"].isnan().all()  # there are no two halves


def test_two_permuted_pairs_have_no_signal_because_their_halves_cannot_be_permuted(
    make_run: MakeRun,
) -> None:
    for control, undefined in (("permuted", True), ("none", False)):
        settings = {"sail": {"t2_control": control}}
        run = make_run([("sail", 0)], tiny_task(labels_per_session=2, labels=4), settings)
        assert bool(trained_agent(run).logged["t2_signal"].isnan().all()) == undefined


def test_a_permutation_of_one_pair_is_refused(make_run: MakeRun) -> None:
    run = make_run(
        [("sail", 0)],
        tiny_task(labels_per_session=1, labels=4),
        settings={"sail": {"t2_control": "permuted"}},
    )
    with pytest.raises(UserError, match="labels_per_session of at least 2"):
        run.members[0].spec.agent(run)


def test_every_estimate_of_t2_has_actions_of_its_own(
    make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    """16 draws for the norm, 4 for each half, and one at every step of the fit."""
    agent, seen, noise = sail(make_run), [], SamplingTerm.noise

    def recorded(term: SamplingTerm, streams: Streams) -> Tensor:
        seen.append(noise(term, streams))
        return seen[-1]

    monkeypatch.setattr(SamplingTerm, "noise", recorded)
    before = agent.reward_model.updates.clone()
    agent.fit_reward(newest_session(agent))
    steps = int((agent.reward_model.updates - before).max())
    assert len(seen) == 16 + 2 * 4 + steps
    assert len(torch.stack([drawn.flatten()[:5] for drawn in seen]).unique(dim=0)) == len(seen)


def test_the_signal_is_in_units_of_t1_at_the_weight_of_t2(make_run: MakeRun) -> None:
    agent = sail(make_run)
    agent.signal = lambda *_: torch.ones(2, 3)
    weight = weigh_again(agent).weight
    expected = weight.square().sum(1) / agent.logged["t1_norm"].square()
    torch.testing.assert_close(agent.logged["t2_signal"], expected)


def test_the_signal_of_t2_has_no_bias_from_noise(make_run: MakeRun) -> None:
    """The mean inner product of the halves over permutations, without signal, is 0."""
    signals, shares = [], []
    agent = sail(make_run, t2_control="permuted")
    for session in range(200):
        agent.runner.feedback.sessions = 2 + session  # different permutations and draws
        weigh_again(agent)
        signals.append(agent.logged["t2_signal"])
        shares.append(agent.logged["t2_share"].square())
    mean = torch.stack(signals).mean(0)
    error = torch.stack(signals).std(0) / math.sqrt(len(signals))
    square = torch.stack(shares).mean(0)
    assert (mean.abs() < 4 * error).all()
    assert (error < 0.2 * square).all()


def test_the_age_of_pairs_is_measured_in_steps_and_nats(make_run: MakeRun) -> None:
    agent = sail(make_run)
    session, term, _ = weigh_again(agent)
    pairs, now = session.pairs, term.pi
    valid = pairs.valid.bool()
    at = pairs.start[..., None] + torch.arange(10)
    sigma = now.log_std.exp()
    rows_ = torch.arange(2)[:, None, None, None]
    shifted = torch.cat([now.mean + 0.5 * sigma, now.log_std], -1)
    agent.acted[rows_, at % agent.acted.shape[1]] = shifted
    steps, nats = agent.age(pairs, now)
    # A shift of half a standard deviation in each of A dimensions is 0.125 A nats.
    torch.testing.assert_close(nats, torch.full((2,), 0.125 * agent.action_size), rtol=1e-3, atol=0)
    age = (agent.replay_buffer.written - at)[valid].view(2, -1).float().mean(1)
    torch.testing.assert_close(steps, age)


def test_the_policy_that_acted_is_stored_at_the_index_of_its_transition(make_run: MakeRun) -> None:
    agent = sail(make_run)
    observation = agent.replay_buffer.newest_observations(1)
    newest = (agent.replay_buffer.written - 1) % agent.acted.shape[1]
    with torch.no_grad():
        before_update = agent.acted[:, newest].clone()
    assert before_update.isfinite().all()
    assert agent.acted[:, : agent.task.random_steps].isnan().all()
    agent.replay_buffer.written -= 1  # act again at the index of the newest transition
    with torch.no_grad():
        agent.acting_policy(observation.squeeze(1))
    now = torch.cat(agent.distribution(observation), -1).squeeze(1)
    torch.testing.assert_close(agent.acted[:, newest], now)


def test_only_members_with_t2_log_it(make_run: MakeRun) -> None:
    run = make_run([("pebble", 0), ("sail", 0)])
    run.execute()
    pebble, sail_ = (pd.read_csv(io.StringIO(rows(run, m, "training.csv"))) for m in (0, 1))
    assert pebble[list(T2_LOGGED)].isna().all(axis=None)
    always = [name for name in T2_LOGGED if name != "t2_age_nats"]  # undefined for random actions
    assert sail_[always].iloc[-1].notna().all()


@pytest.mark.parametrize(("share", "said"), [(0.002, True), (0.02, False)])
def test_a_share_of_t2_below_one_percent_is_reported(
    make_run: MakeRun, share: float, said: bool
) -> None:
    run = make_run([("pebble", 0), ("sail", 0), ("sail", 1)], settings={"sail": {"lambda": share}})
    lines: list[str] = []
    run.say = lines.append
    run.execute()
    assert [line.partition(":")[0] for line in lines] == ["sail"] * said
    if said:
        assert "2 runs (at most 0.20%)" in lines[0]


def test_a_run_of_one_session_which_has_no_t2_is_reported(make_run: MakeRun) -> None:
    run = make_run([("pebble", 0), ("sail", 0)], tiny_task(labels=4))
    lines: list[str] = []
    run.say = lines.append
    run.execute()
    assert lines == ["sail: T2 was 0 in every fit of 1 run, as with lambda = 0"]
