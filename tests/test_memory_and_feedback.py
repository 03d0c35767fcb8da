"""ReplayBuffer, segments, label sessions and relabelling."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from conftest import MakeRun, tiny_task
from torch import Tensor

from mujoco_sail.core.entropy import state_entropy_reward
from mujoco_sail.core.objectives import log_likelihood
from mujoco_sail.core.replay_buffer import ReplayBuffer
from mujoco_sail.core.streams import Streams

CPU = torch.device("cpu")


def filled(capacity: int, episodes: list[int], running: int, window: int = 100) -> ReplayBuffer:
    """A replay of one member whose observation is (episode, step of it, place overall)."""
    replay_buffer = ReplayBuffer(1, capacity, 3, 1, window, CPU)
    place = 0
    for episode, length in enumerate([*episodes, running]):
        for step in range(length):
            observation = torch.tensor([[float(episode), float(step), float(place)]])
            ended = np.array([episode < len(episodes) and step == length - 1])
            one = torch.ones(1)
            replay_buffer.add(
                observation, torch.zeros(1, 1), one, one * step, observation + 1, one, ended
            )
            place += 1
    return replay_buffer


def segments(replay_buffer: ReplayBuffer, count: int, steps: int) -> tuple[Tensor, Tensor]:
    cut = replay_buffer.window_segments(Streams([0], "cut", CPU), count, steps)
    return cut.observation[0], cut.valid[0]


def test_a_batch_is_drawn_uniformly_from_a_members_own_transitions() -> None:
    """Of member m at step t every column tells (m, t); the oldest 3 of 8 were overwritten."""
    members, capacity = 3, 5
    replay_buffer = ReplayBuffer(members, capacity, 2, 1, 100, CPU)
    who = torch.arange(float(members))
    for step in range(8):
        seen = torch.stack([who, torch.full((members,), float(step))], -1)
        tag = 100 * who + step
        ended = np.zeros(members, bool)
        replay_buffer.add(seen, tag[:, None], tag + 0.1, tag + 0.2, seen + 0.5, tag + 0.3, ended)
    batch = replay_buffer.sample(Streams([0, 1, 2], "batch", CPU), 3000)
    assert (batch.observation[..., 0] == who[:, None]).all()
    step = batch.observation[..., 1]
    tag = 100 * who[:, None] + step
    assert torch.equal(batch.action[..., 0], tag)
    assert torch.equal(batch.next_observation, batch.observation + 0.5)
    torch.testing.assert_close(batch.reward, tag + 0.1)
    torch.testing.assert_close(batch.terminated, tag + 0.3)
    for row in step:
        counts = torch.bincount(row.long(), minlength=8)
        assert counts[:3].tolist() == [0, 0, 0]
        assert (counts[3:] - 600).abs().max() < 100  # 4.5 standard deviations
    assert not torch.equal(step[0], step[1])


def test_no_segment_crosses_the_end_of_an_episode() -> None:
    observation, valid = segments(filled(100, [20, 7, 30], 15), 500, 5)
    assert valid.all()
    assert (observation[..., 0] == observation[:, :1, 0]).all()
    assert (observation[:, 1:, 2] - observation[:, :-1, 2] == 1).all()


def test_every_place_where_a_segment_fits_is_drawn_equally_often() -> None:
    """Episodes of 7 and 5 with 5 steps: places 0, 1, 2 and 7; 7 is the whole episode."""
    observation, _ = segments(filled(100, [7, 5], 3), 4000, 5)
    place, count = observation[:, 0, 2].unique(return_counts=True)
    assert place.tolist() == [0, 1, 2, 7]
    assert (count > 850).all()


def test_the_running_episode_counts_where_a_segment_fits() -> None:
    observation, _ = segments(filled(100, [], 6), 100, 5)
    assert set(observation[:, 0, 2].tolist()) == {0.0, 1.0}


def test_an_episode_shorter_than_a_segment_is_padded_at_its_end() -> None:
    observation, valid = segments(filled(100, [3], 1), 10, 5)
    assert valid.tolist() == [[1, 1, 1, 0, 0]] * 10
    assert observation[:, :3, 2].tolist() == [[0, 1, 2]] * 10


def test_only_the_newest_episodes_of_the_window_are_cut() -> None:
    observation, _ = segments(filled(100, [10, 10, 10, 10], 10, window=2), 300, 5)
    assert set(observation[:, 0, 0].tolist()) == {2.0, 3.0, 4.0}


def test_after_the_replay_wraps_segments_hold_what_was_not_overwritten() -> None:
    observation, valid = segments(filled(25, [20, 20], 10), 500, 5)
    assert valid.all()
    assert observation[:, 0, 2].min() == 25  # 50 written, 25 held
    assert (observation[:, 1:, 2] - observation[:, :-1, 2] == 1).all()
    assert (observation[..., 0] == observation[:, :1, 0]).all()


def test_a_segment_that_fits_nowhere_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="segment_steps"):
        segments(filled(100, [], 4), 1, 5)


def test_the_recent_rewards_are_those_of_the_window() -> None:
    """Two episodes in the window, rewards 0, 1, 2 and 0, 1."""
    replay_buffer = filled(100, [9, 3], 2, window=1)
    (rewards,) = replay_buffer.window_task_rewards()
    assert rewards.tolist() == [0, 1, 2, 0, 1]


def test_the_state_entropy_reward_is_the_log_distance_to_the_kth_neighbour() -> None:
    visited = torch.tensor([[[0.0], [1.0], [3.0], [7.0]]])
    reward = state_entropy_reward(visited[:, :1], visited, 2)
    assert reward.exp().item() == pytest.approx(3.0)


def pebble(make_run: MakeRun, agents: str = "pebble", **changes: Any) -> Any:
    task = tiny_task(**changes)
    run = make_run([(name, 0) for name in agents.split(",")], task)
    agent = run.members[0].entry.agent(run)
    agent.train()
    return agent


def test_relabelling_reaches_the_whole_replay_also_after_it_wrapped(make_run: MakeRun) -> None:
    agent = pebble(make_run, replay_capacity=70)
    assert agent.replay_buffer.written > agent.replay_buffer.capacity
    agent.replay_buffer.reward.fill_(99.0)
    agent.relabel()
    expected = agent.mean_reward(agent.replay_buffer.observation, agent.replay_buffer.action)
    assert torch.equal(agent.replay_buffer.reward, expected)
    assert agent.replay_buffer.reward.abs().max() <= 1


def test_every_arm_uses_the_whole_budget_and_no_more(make_run: MakeRun) -> None:
    agent = pebble(make_run, agents="pebble,sail,sail_revkl")
    for files in agent.runner.files:
        lines = (files.folder / "feedback.csv").read_text().splitlines()[1:]
        assert len(lines) == 8
    with pytest.raises(RuntimeError, match="budget of 8 labels is spent"):
        agent.session(150)


def test_a_skipped_query_costs_no_label_and_is_counted_apart(make_run: MakeRun) -> None:
    agent = pebble(make_run, agents="pebble,sail", teacher="skip", reward_range=[-1.0, 0.2])
    skipping = agent.runner.feedback
    assert skipping.used == 8
    for queries in skipping.queries:
        assert sum(query.label is not None for query in queries) == 8
    strict = pebble(
        make_run, teacher="skip", reward_range=[-1.0, 0.2], **{"oracle.skip": 1.01}
    ).run.feedback.queries[0]
    assert sum(query.label is None for query in strict) > 0
    assert sum(query.label is not None for query in strict) == 8


def test_a_teacher_who_refuses_everything_fails_the_run_with_a_reason(make_run: MakeRun) -> None:
    with pytest.raises(RuntimeError, match="teacher 'skip' refused"):
        pebble(make_run, teacher="skip", reward_range=[-100.0, 1.0], **{"oracle.skip": 50.0})


def test_ties_train_towards_equal_returns(make_run: MakeRun) -> None:
    """A teacher for whom all is equal labels 0.5, and the fit closes the margin."""
    agent = pebble(
        make_run,
        teacher="equal",
        reward_range=[-100.0, 1.0],
        reward_epochs=200,
        **{"oracle.equal": 50.0},
    )
    assert (agent.labels == 0.5).all()
    probability = agent.probability(agent.pairs)
    loss = -log_likelihood(torch.logit(probability), agent.labels[:, None]).mean()
    assert loss.item() == pytest.approx(np.log(2), abs=2e-3)


def test_labels_follow_the_task_reward_that_the_record_states(make_run: MakeRun) -> None:
    agent = pebble(make_run)
    for query in agent.runner.feedback.queries[0]:
        assert query.label == float(query.return_1 > query.return_2)
