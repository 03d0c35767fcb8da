"""PoLiCER: queries by policy likelihood, critic-exploited resets and several updates per step."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.command_line import fails
from helpers.gradients import assert_is_derivative
from helpers.neutral import assert_is_pebble, assert_neutral_member_is_pebble
from helpers.resuming import results_after_stops
from helpers.runs import MakeRun, members_of, results_of, trained, trained_once
from helpers.sessions import newest_session
from helpers.tiny import CPU, tiny_task
from torch import Tensor

from mujoco_sail.agents import policer
from mujoco_sail.core import update as core_update
from mujoco_sail.preferences.pairs import Pairs, crops
from mujoco_sail.preferences.queries import drawn_by_rank
from mujoco_sail.training.run import Run

PLAIN = {"crops_per_pair": 0, "queries": "disagreement"}
OFF = {**PLAIN, "rank_exponent": 0.0, "reset_threshold": math.inf}
# Resets at every session after the first, if q is positive; sessions are at 80, 95, 110 and 125.
OFTEN = {**OFF, "reset_threshold": 0.0, "threshold_rise": 0.0, "most_updates": 3}
SESSIONS = {"labels": 16, "session_every": 15}


@pytest.fixture
def agent(make_run: MakeRun, float64: None) -> Any:
    """A trained stack of two members, without resets so far."""
    settings = {"policer": {"reset_threshold": 1e9}}
    return trained_once(make_run([("policer", 0), ("policer", 1)], settings=settings))


def drawn(agent: Any) -> Pairs:
    return Pairs.drawn(agent.replay_buffer, agent.streams("test"), 40, 10)


def copies(agent: Any) -> dict[str, Tensor]:
    """Copies of all parameters, moments and step counts, each of the shape [M, ...]."""
    nets = {name: getattr(agent, name).flat for name in ("actor", "critic", "target")}
    nets["reward"], nets["log_alpha"] = agent.reward_model.net.flat, agent.log_alpha
    for name in ("actor_adam", "critic_adam", "alpha_adam"):
        nets |= {f"{name}{i}": t for i, t in enumerate(getattr(agent, name).moments)}
    nets |= {f"reward_adam{i}": t for i, t in enumerate(agent.reward_model.adam.moments)}
    return {name: tensor.detach().clone().view(2, -1) for name, tensor in nets.items()}


# --- equality with PEBBLE ---


def test_neutral_settings_equal_pebble_bit_for_bit(make_run: MakeRun) -> None:
    assert_is_pebble(make_run, "policer", OFF)


def test_a_neutral_member_equals_pebble_in_a_stack_with_other_settings(
    make_run: MakeRun, tmp_path: Path
) -> None:
    assert_neutral_member_is_pebble(make_run, "policer", OFF, {**OFF, "rank_exponent": 1}, tmp_path)


def test_crops_change_the_parameters(make_run: MakeRun) -> None:
    settings = {"policer": {**OFF, "crops_per_pair": 20}}
    one = trained(make_run([("policer", 0)], settings=settings))["policer", 0]
    other = trained(make_run([("pebble", 0)]))["pebble", 0]
    assert not all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


# --- queries by policy likelihood ---


def test_the_likelihood_is_the_mean_log_density_over_the_valid_steps(agent: Any) -> None:
    """Against PyTorch's distributions; actions of 1 count as 1 - 1e-4."""
    pairs = drawn(agent)
    pairs.inputs[:, 0, 0, 0, -1] = 1.0
    pairs.valid[:, 1, 1, 4:] = 0
    observation, action = torch.split(pairs.inputs, list(agent.runner.sizes), -1)
    output = agent.actor(observation.flatten(1, 3)[:, None])[:, 0].detach()
    mean, raw = output.view(*observation.shape[:-1], -1).chunk(2, -1)
    base = torch.distributions.Normal(mean, (-1.5 + 3.5 * torch.tanh(raw)).exp())
    squashed = torch.distributions.TransformedDistribution(
        base, [torch.distributions.TanhTransform()]
    )
    density = squashed.log_prob(action.clamp(-0.9999, 0.9999)).sum(-1)  # [M, P, 2, T]
    expected = density.mean(-1)
    expected[:, 1, 1] = density[:, 1, 1, :4].mean(-1)
    torch.testing.assert_close(agent.log_likelihood(pairs), expected)


def test_a_session_compares_the_likeliest_segments_if_the_exponent_is_large(agent: Any) -> None:
    agent.exponent = torch.tensor([60.0, 0.0])
    pairs = drawn(agent)
    paired = agent.candidates(3)(pairs)
    likelihood, ours = (agent.log_likelihood(p).flatten(1) for p in (pairs, paired))
    best = likelihood.sort(descending=True).values
    torch.testing.assert_close(ours[0, :8].sort(descending=True).values, best[0, :8])
    torch.testing.assert_close(ours[0].sort(descending=True).values, best[0])
    assert not torch.equal(ours[0, :8], best[0, :8])  # paired at random
    for name in ("inputs", "valid", "task_reward", "start"):
        assert torch.equal(getattr(paired, name)[1], getattr(pairs, name)[1])
    # All fields move together.
    start = paired.start[..., None] + torch.arange(10)
    rewards = agent.replay_buffer.task_reward[:, None, None].expand(-1, 40, 2, -1)
    torch.testing.assert_close(rewards.gather(-1, start), paired.task_reward)


def test_a_session_draws_two_segments_per_label(
    agent: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def recorded(score: Tensor, exponent: Tensor, at_once: int, streams: Any) -> Tensor:
        seen.append(at_once)
        return drawn_by_rank(score, exponent, at_once, streams)

    monkeypatch.setattr(policer, "drawn_by_rank", recorded)
    agent.candidates(3)(drawn(agent))
    assert seen == [2 * agent.task.labels_per_session]


def test_every_session_is_asked_about_likelier_segments_than_were_drawn(make_run: MakeRun) -> None:
    """The first session too."""
    settings = {"policer": {"rank_exponent": 8.0, "reset_threshold": math.inf}}
    run = make_run([("policer", 0), ("policer", 1)], settings=settings)
    agent: Any = run.members[0].spec.agent(run)
    seen = []
    candidates, fit = agent.candidates, agent.fit_reward

    def watched(session: int) -> Any:
        pair = candidates(session)
        return lambda pairs: seen.append(agent.log_likelihood(pairs).mean((1, 2))) or pair(pairs)

    def fitting(session: Any) -> None:
        asked = agent.log_likelihood(session.pairs).mean((1, 2))
        fit(session)
        assert (asked > seen[-1]).all()
        assert torch.equal(agent.metrics()["query_log_likelihood"], asked)

    agent.candidates, agent.fit_reward = watched, fitting
    agent.train()
    assert len(seen) == 2


# --- crops ---


def test_the_gradient_of_a_fit_is_that_of_the_mean_over_its_crops(agent: Any) -> None:
    """Central differences of the objective computed crop by crop."""
    session = newest_session(agent)
    label, pairs = agent.labels[:, None].expand(-1, 3, -1), agent.pairs
    valid = pairs.valid[:, None].expand(-1, 3, -1, -1, -1)
    rewards = agent.reward_model.rewards(pairs.inputs[:, None])
    fit = agent.reward_objective(session)
    stated = fit.value(fit.likelihood(rewards, valid, label)).sum()

    def by_hand() -> Tensor:
        shares = torch.tensor([[0.75] * 2, [0.917] * 2])
        many = valid[:, :, None].expand(-1, -1, 20, -1, -1, -1)
        total = torch.zeros(())
        for crop in crops(many, *shares, agent.streams("crops", session.number)).unbind(2):
            returns = (agent.reward_model.rewards(pairs.inputs[:, None]) * crop).sum(-1)
            p = torch.sigmoid(returns[..., 0] - returns[..., 1])
            total = total + (label * p.log() + (1 - label) * (1 - p).log()).mean(-1).sum() / 20
        return total

    torch.testing.assert_close(stated, by_hand())
    parameters = agent.reward_model.net.parameters
    assert_is_derivative(torch.autograd.grad(stated, parameters), parameters, by_hand)


# --- critic-exploited reset ---


def test_q_is_the_largest_mean_of_the_smaller_critic_since_the_last_reset(
    agent: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent.largest_q.fill_(-100)
    min_q, seen = core_update.min_q, []

    def recording(*args: Any) -> Any:
        q, gradient = min_q(*args)
        seen.append(q.mean(-1))
        return q, gradient

    monkeypatch.setattr(core_update, "min_q", recording)
    for _ in range(5):
        agent.update()
    assert len(seen) == 5
    torch.testing.assert_close(agent.largest_q, torch.stack(seen).amax(0))


def test_a_reset_reinitialises_reward_and_critics_of_the_members_above_their_threshold(
    agent: Any,
) -> None:
    agent.threshold, agent.largest_q = torch.tensor([25.0, 25.0]), torch.tensor([25.1, 24.9])
    before = copies(agent)
    fits: list[Tensor] = []

    def fit(*_: Any) -> tuple[Tensor, Tensor]:
        fits.append(copies(agent)["reward"])
        return torch.zeros(2), torch.zeros(2)

    agent.reward_model.fit = fit
    agent.fit_reward(newest_session(agent))
    after = copies(agent)
    changed = {name for name in before if not torch.equal(before[name][0], after[name][0])}
    # The critics' Adam starts from zero; the reward's goes on, as in the released code.
    moments = {f"critic_adam{i}" for i in range(len(agent.critic_adam.moments))}
    assert changed == {"critic", "target", "reward"} | moments
    assert all(torch.equal(before[name][1], after[name][1]) for name in before)
    assert torch.equal(after["critic"][0], after["target"][0])
    assert not any(after[name][0].any() for name in moments)
    for name in ("critic", "reward"):
        assert not torch.isclose(before[name][0], after[name][0]).float().mean() > 0.2
    assert len(fits) == 1
    assert torch.equal(fits[0], after["reward"])  # the fit is after the reset
    assert agent.largest_q.tolist() == pytest.approx([0.0, 24.9])
    assert agent.metrics()["largest_q"].tolist() == pytest.approx([25.1, 24.9])
    assert agent.metrics()["resets"].tolist() == [1, 0]


def test_the_first_session_resets_nothing_and_forgets_the_exploration(agent: Any) -> None:
    agent.threshold, agent.largest_q = torch.tensor([25.0, 25.0]), torch.tensor([90.0, 90.0])
    agent.fit_reward(replace(newest_session(agent), number=1))
    assert agent.resets.tolist() == [0, 0]
    assert agent.largest_q.tolist() == [0, 0]


def test_thresholds_rise_by_a_decaying_amount_to_at_most_100(agent: Any) -> None:
    agent.threshold, agent.rise = torch.tensor([25.0, 98.0]), torch.tensor([5.0, 5.0])
    seen = []
    for number in range(2, 6):
        agent.reset(torch.tensor([number != 3, True]), number)
        seen.append(agent.threshold.tolist())
    assert [a for a, _ in seen] == pytest.approx([30.0, 30.0, 34.5, 38.55])
    assert [b for _, b in seen] == pytest.approx([100.0] * 4)
    assert agent.resets.tolist() == [3, 4]


def test_an_anchor_and_another_loss_of_the_actor_are_refused(
    agent: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--env", "half_cheetah", "--agents", "policer", "--set", "agent.policer.reverse_kl=1"]
    said = fails(capsys, "run", *words)
    assert "policer.toml: key 'reverse_kl' is 1.0; expected 0 for an agent with resets" in said
    own = {"actor_loss": lambda self, *args: super().actor_loss(*args)}
    refusal = "Other overrides actor_loss, which its base class does not allow: extend SAIL"
    with pytest.raises(TypeError, match=refusal):
        type("Other", (type(agent),), own)


# --- several updates per step ---


def test_every_further_update_has_random_numbers_of_its_own(agent: Any) -> None:
    agent.runner.feedback.labels_used, agent.resets = 4, torch.tensor([3.0, 0.0])
    seen, update_with = [], agent.update_with

    def recorded(drawn: Tensor, tau: float) -> None:
        seen.append(drawn[0].clone())
        update_with(drawn, tau)

    agent.update_with = recorded
    agent.update()
    agent.update()
    assert len(seen) == len(torch.stack(seen).unique(dim=0)) == 8


def test_members_take_as_many_updates_per_step_as_they_had_resets_up_to_the_most(
    agent: Any,
) -> None:
    agent.runner.feedback.labels_used = 4
    taken = []
    for resets in (0, 1, 2, 3, 4, 9):
        agent.resets = torch.tensor([float(resets), 0.0])
        before = copies(agent)
        agent.update()
        after = copies(agent)
        for adam in (agent.critic_adam, agent.actor_adam, agent.alpha_adam):
            name = next(k for k, v in vars(agent).items() if v is adam)
            last = f"{name}{len(adam.moments) - 1}"  # the step count
            taken.append((after[last] - before[last])[:, 0].tolist())
    expected = [[float(n), 1.0] for n in (1, 2, 3, 4, 4, 4) for _ in range(3)]
    assert taken == expected


def test_targets_move_at_every_second_step_by_one_average(agent: Any) -> None:
    agent.runner.feedback.labels_used = 4
    agent.resets = torch.tensor([2.0, 0.0])
    for _ in range(2):
        before = agent.target.flat.clone()
        agent.update()
        moves = agent.updates % 2 == 0
        expected = before + moves * 0.005 * (agent.critic.flat.detach() - before)
        torch.testing.assert_close(agent.target.flat, expected)


def test_a_step_has_one_update_when_the_budget_is_spent(agent: Any) -> None:
    assert agent.runner.feedback.labels_left == 0
    agent.resets = torch.tensor([3.0, 3.0])
    before = agent.actor_adam.trained.steps.clone()
    agent.update()
    assert (agent.actor_adam.trained.steps - before).tolist() == [1, 1]


def test_files_of_a_member_do_not_depend_on_the_resets_of_others(tmp_path: Path) -> None:
    (often,) = members_of([("policer", 3)], {"policer": OFTEN})
    (never,) = members_of([("policer", 4)], {"policer": OFF})
    written = {}
    for stack in ([often], [never], [often, never]):
        folder = tmp_path / str(len(written))
        run = Run(tiny_task(**SESSIONS), stack, CPU, folder, lambda _: None)
        run.execute()
        written[len(written)] = results_of(run)
        training = (run.files[0].folder / "training.csv").read_text().splitlines()
        last = dict(zip(training[0].split(","), training[-1].split(","), strict=True))
        assert (float(last["resets"]) > 1) == (stack[0] is often)
    assert written[0] + written[1] == written[2]


def test_a_run_with_resets_resumes_to_identical_files(make_run: MakeRun, tmp_path: Path) -> None:
    """Stops between sessions, when a member takes several updates per step."""
    task, names = tiny_task(**SESSIONS), [("policer", 3), ("policer", 4)]
    settings = {"policer": {**OFTEN, "rank_exponent": 1.0}}
    whole = make_run(names, task, settings)
    whole.execute()
    again = results_after_stops(task, names, settings, (100, 120), tmp_path / "again")
    assert again == results_of(whole)
