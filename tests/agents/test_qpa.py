"""QPA: queries, batches, crops and training."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.command_line import fails
from helpers.gradients import assert_is_derivative
from helpers.neutral import assert_is_pebble
from helpers.runs import FILES, MakeRun, trained
from helpers.sessions import newest_session
from helpers.tiny import tiny_task

from mujoco_sail.agents import cropping, reward_model
from mujoco_sail.core.replay_buffer import Batch
from mujoco_sail.preferences.sessions import Session

# Episodes have 40 steps. The window is the current episode and the one before it.
NEAR = {"aligned_episodes": 1}
NAMES = [("qpa", 0), ("qpa", 1)]
SETTINGS = {"qpa": NEAR}
# Settings with which QPA equals PEBBLE; 10 episodes is the window of the protocol `quick`.
OFF = {
    "aligned_episodes": 10, "aligned_share": 0.0, "crops_per_pair": 0, "queries": "disagreement",
}  # fmt: skip


def agent_of(make_run: MakeRun, settings: dict[str, Any] = NEAR, **changes: Any) -> Any:
    run = make_run(NAMES, tiny_task(**changes), settings={"qpa": settings})
    return run.members[0].spec.agent(run)


# --- hybrid experience replay and queries ---


def test_half_of_a_batch_is_recent_from_the_first_session_until_the_budget_is_spent(
    make_run: MakeRun,
) -> None:
    """Counts members with eight recent rows per batch; other rows may be recent by chance."""
    agent = agent_of(make_run)
    buffer = agent.replay_buffer
    seen: list[tuple[int, int]] = []
    sample = agent.sample

    def watched(uniform: Any) -> Any:
        rows = sample(uniform)
        observation = Batch.of(rows, *agent.runner.sizes).observation
        written = buffer.observation[:, : buffer.written].unsqueeze(1)
        at = (observation.unsqueeze(2) == written).all(-1).long().argmax(-1)
        first = buffer.written // 40 * 40 - 40
        seen.append((buffer.written, int((at[:, :8] >= first).all(1).sum())))
        assert agent._recent.sum(1).tolist() == [8, 8]
        return rows

    agent.sample = watched
    agent.train()
    # Sessions are at 80 and 110. In between, both members draw eight rows from the window.
    # A step learns from the transitions before it.
    between = [full for written, full in seen if 79 <= written < 109]
    others = [full for written, full in seen if not 79 <= written < 109]
    assert len(between) == 30 + agent.settings.reset_updates
    assert set(between) == {2}
    assert min(others) < 2


def test_the_other_rows_come_from_the_whole_buffer(make_run: MakeRun) -> None:
    agent = agent_of(make_run, labels=80)
    agent.train()
    agent._window.copy_(agent.replay_buffer.window_ranges())
    assert agent.is_hybrid()
    rows = agent.sample(agent.streams("test").uniform(16))
    whole = agent.replay_buffer.sample(agent.streams("test").uniform(16))
    assert torch.equal(rows[:, 8:], whole[:, 8:])
    assert not torch.equal(rows[:, :8], whole[:, :8])


def test_the_aligned_share_is_exact_and_per_member(make_run: MakeRun, tmp_path: Path) -> None:
    names = [("qpa", 0)]
    for share in (0.0, 0.3, 1.0):
        path = tmp_path / f"share_{share}.toml"
        path.write_text(f'title = "share"\nbase = "qpa"\naligned_share = {share}\n')
        names.append((str(path), 0))
    run = make_run(names)
    agent: Any = run.members[0].spec.agent(run)
    assert agent._recent.sum(1).tolist() == [8, 0, 5, 16]


def test_queries_come_only_from_the_newest_episodes(make_run: MakeRun) -> None:
    """At step 110, two episodes are complete, and a window of one complete episode starts at 40."""
    agent = agent_of(make_run)
    agent.train()
    assert agent.pairs.inputs.shape[1] == 8
    observation = agent.replay_buffer.observation
    start = agent.pairs.inputs[:, 4:, :, 0, : agent.runner.sizes[0]].flatten(1, 2)
    at = (start.unsqueeze(2) == observation.unsqueeze(1)).all(-1).long().argmax(-1)
    assert at.min() >= 40
    assert at.max() >= 80


# --- crops ---


def test_the_likelihood_is_the_mean_over_the_crops(
    make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Computed by hand for two crops of one pair with rewards 1, 2, 3 and 0, 1, 1."""
    agent = agent_of(make_run, {**NEAR, "crops_per_pair": 2})
    masks = torch.tensor([[[1.0, 1, 0], [0, 1, 1]], [[0, 1, 1], [1, 1, 0]]])
    monkeypatch.setattr(
        cropping, "crops", lambda valid, *_: masks.view(1, 1, 2, 1, 2, 3).expand(*valid.shape)
    )
    rewards = torch.tensor([[1.0, 2, 3], [0, 1, 1]]).expand(2, 3, 1, 2, 3)
    valid, label = torch.ones_like(rewards), torch.ones(2, 3, 1)
    session = Session(1, agent.pairs, agent.labels)
    log_p = agent.reward_objective(session).likelihood(rewards, valid, label)
    # Margins 3 - 2 and 5 - 1.
    expected = (torch.sigmoid(torch.tensor([1.0, 4.0])).log()).mean()
    torch.testing.assert_close(log_p, expected.expand(2, 3, 1))


def test_the_gradient_of_a_fit_equals_that_of_the_mean_over_its_crops(
    make_run: MakeRun, float64: None
) -> None:
    """Central differences, with the crops of the fit."""
    agent = agent_of(make_run)
    agent.train()
    session = newest_session(agent)
    pairs, net = agent.pairs, agent.reward_model.net
    label = agent.labels[:, None].expand(-1, 3, -1)
    valid = pairs.valid[:, None].expand(-1, 3, -1, -1, -1)

    def objective() -> torch.Tensor:
        rewards = agent.reward_model.rewards(pairs.inputs[:, None])
        fit = agent.reward_objective(session)
        return fit.value(fit.likelihood(rewards, valid, label)).sum()  # type: ignore[no-any-return]

    def by_hand() -> torch.Tensor:
        """Objective computed crop by crop."""
        shares = torch.tensor([[0.7] * 2, [0.9] * 2])
        streams = agent.streams("crops", session.number)
        many = valid[:, :, None].expand(-1, -1, 20, -1, -1, -1)
        total = torch.zeros(())
        for crop in cropping.crops(many, *shares, streams).unbind(2):
            returns = (agent.reward_model.rewards(pairs.inputs[:, None]) * crop).sum(-1)
            p = torch.sigmoid(returns[..., 0] - returns[..., 1])
            total = total + (label * p.log() + (1 - label) * (1 - p).log()).mean(-1).sum() / 20
        return total

    torch.testing.assert_close(objective(), by_hand())
    gradients = torch.autograd.grad(objective(), net.parameters)
    assert_is_derivative(gradients, net.parameters, by_hand)


def test_every_batch_of_a_fit_has_new_crops_and_accuracy_uses_whole_segments(
    make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent = agent_of(make_run)
    drawn, whole = [], []
    crops, correct = cropping.crops, reward_model.correct_predictions
    monkeypatch.setattr(cropping, "crops", lambda *args: drawn.append(crops(*args)) or drawn[-1])
    monkeypatch.setattr(
        reward_model, "correct_predictions", lambda *args: whole.append(args[0]) or correct(*args)
    )
    agent.train()
    assert len(drawn) >= 6  # an epoch of one batch, then two epochs of two
    assert not torch.equal(drawn[0], drawn[1])
    assert set(drawn[0].sum(-1).flatten().tolist()) == {7.0, 8.0, 9.0}  # of 10 steps
    assert all(margins.shape[:2] == (2, 3) and margins.ndim == 3 for margins in whole[1:-1])


def test_a_shortest_crop_above_the_longest_is_refused(
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = ["--env", "half_cheetah", "--agents", "qpa", "--set", "agent.qpa.shortest_crop=0.95"]
    said = fails(capsys, "run", *words)
    assert "key 'shortest_crop' is 0.95; expected at most longest_crop = 0.9" in said


# --- equality with PEBBLE, and training ---


def test_neutral_settings_equal_pebble_bit_for_bit(make_run: MakeRun) -> None:
    one, _ = assert_is_pebble(make_run, "qpa", OFF, files=FILES)
    assert one.task.query_window == OFF["aligned_episodes"]


def test_each_setting_changes_the_agent(make_run: MakeRun) -> None:
    actors = []
    settings = dict(OFF)
    for part in ({}, {"aligned_episodes": 1}, {"aligned_share": 0.5}, {"crops_per_pair": 20}):
        settings |= part
        parameters = trained(make_run([("qpa", 3)], settings={"qpa": settings}))["qpa", 3]
        actors.append(torch.cat([p.flatten() for p in parameters[:6]]))
    for one, other in itertools.combinations(actors, 2):
        assert not torch.equal(one, other)
