"""Replay buffer: batches, segments and memory."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers.tiny import CPU
from torch import Tensor

from mujoco_sail.core.replay_buffer import Batch, ReplayBuffer
from mujoco_sail.core.streams import Streams


def filled(capacity: int, episodes: list[int], running: int, window: int = 100) -> ReplayBuffer:
    """Replay of one member whose observation is (episode, step in it, transitions before it)."""
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
    """Every column encodes member and step; the oldest 3 of 8 steps were overwritten."""
    members, capacity = 3, 5
    replay_buffer = ReplayBuffer(members, capacity, 2, 1, 100, CPU)
    who = torch.arange(float(members))
    for step in range(8):
        seen = torch.stack([who, torch.full((members,), float(step))], -1)
        tag = 100 * who + step
        ended = np.zeros(members, bool)
        replay_buffer.add(seen, tag[:, None], tag + 0.1, tag + 0.2, seen + 0.5, tag + 0.3, ended)
    batch = Batch.of(replay_buffer.sample(Streams([0, 1, 2], "batch", CPU).uniform(3000)), 2, 1)
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


def hybrid(replay_buffer: ReplayBuffer, recent: int, count: int) -> Tensor:
    """Step numbers of a batch whose first `recent` rows come from the window."""
    uniform = Streams([0], "batch", CPU).uniform(count)
    from_window = (torch.arange(count) < recent).unsqueeze(0)
    rows = replay_buffer.sample_hybrid(uniform, from_window, replay_buffer.window_ranges())
    return Batch.of(rows, 3, 1).observation[0, :, 2].long()


@pytest.mark.parametrize("capacity", [100, 40])
def test_the_recent_rows_of_a_hybrid_batch_are_uniform_over_the_window(capacity: int) -> None:
    """50 transitions: the window of 2 episodes starts at 20, a capacity of 40 starts at 10."""
    replay_buffer = filled(capacity, [10, 10, 10, 10], 10, window=2)
    places = hybrid(replay_buffer, 3000, 5000)
    recent, whole = (torch.bincount(part, minlength=50) for part in (places[:3000], places[3000:]))
    oldest = 50 - min(capacity, 50)
    assert (recent[:20] == 0).all()
    assert (recent[20:] - 100).abs().max() < 45  # 4.5 standard deviations
    assert (whole[:oldest] == 0).all()
    assert (whole[oldest:] > 0).all()


def test_a_window_larger_than_the_replay_starts_where_the_replay_starts() -> None:
    replay_buffer = filled(25, [20, 20], 10)
    assert replay_buffer.window_ranges().tolist() == [[[0]], [[25]]]  # 50 = 2 x 25 written
    assert set(hybrid(replay_buffer, 500, 500).tolist()) == set(range(25, 50))


def test_a_hybrid_batch_without_recent_rows_equals_a_plain_batch() -> None:
    replay_buffer = filled(40, [10, 10, 10, 10], 10, window=2)
    plain = replay_buffer.sample(Streams([0], "batch", CPU).uniform(50))
    assert torch.equal(hybrid(replay_buffer, 0, 50), Batch.of(plain, 3, 1).observation[0, :, 2])


def test_no_segment_crosses_the_end_of_an_episode() -> None:
    observation, valid = segments(filled(100, [20, 7, 30], 15), 500, 5)
    assert valid.all()
    assert (observation[..., 0] == observation[:, :1, 0]).all()
    assert (observation[:, 1:, 2] - observation[:, :-1, 2] == 1).all()


def test_segments_are_uniform_over_all_positions() -> None:
    """Segments of 5 steps in episodes of 7 and 5 start at 0, 1, 2 and 7."""
    observation, _ = segments(filled(100, [7, 5], 3), 4000, 5)
    place, count = observation[:, 0, 2].unique(return_counts=True)
    assert place.tolist() == [0, 1, 2, 7]
    assert (count > 850).all()


def test_the_running_episode_counts_if_a_segment_fits() -> None:
    observation, _ = segments(filled(100, [], 6), 100, 5)
    assert set(observation[:, 0, 2].tolist()) == {0.0, 1.0}


def test_an_episode_shorter_than_a_segment_is_padded_at_its_end() -> None:
    observation, valid = segments(filled(100, [3], 1), 10, 5)
    assert valid.tolist() == [[1, 1, 1, 0, 0]] * 10
    assert observation[:, :3, 2].tolist() == [[0, 1, 2]] * 10


def test_segments_come_from_the_query_window_only() -> None:
    observation, _ = segments(filled(100, [10, 10, 10, 10], 10, window=2), 300, 5)
    assert set(observation[:, 0, 0].tolist()) == {2.0, 3.0, 4.0}


def test_after_the_replay_wraps_segments_hold_no_overwritten_steps() -> None:
    observation, valid = segments(filled(25, [20, 20], 10), 500, 5)
    assert valid.all()
    assert observation[:, 0, 2].min() == 25  # 50 written, 25 held
    assert (observation[:, 1:, 2] - observation[:, :-1, 2] == 1).all()
    assert (observation[..., 0] == observation[:, :1, 0]).all()


def test_the_rest_of_an_overwritten_episode_counts_if_a_segment_fits() -> None:
    """33 of 20 + 20 + 10 transitions are held: 3 of the first episode, too few for 5 steps."""
    observation, valid = segments(filled(33, [20, 20], 10), 500, 5)
    assert valid.all()
    assert observation[:, 0, 2].min() == 20


def test_no_window_is_longer_than_the_replay() -> None:
    saved = filled(25, [20, 20], 10, window=10**15).state()
    assert saved["starts"].tolist() == [[0, 20, 40, *[-1] * 23]]


def test_a_segment_that_fits_in_no_episode_is_an_error_that_names_the_key() -> None:
    with pytest.raises(ValueError, match="segment_steps"):
        segments(filled(100, [], 4), 1, 5)


def test_window_task_rewards_are_those_of_the_query_window() -> None:
    """Two episodes in the window, rewards 0, 1, 2 and 0, 1."""
    replay_buffer = filled(100, [9, 3], 2, window=1)
    (rewards,) = replay_buffer.window_task_rewards()
    assert rewards.tolist() == [0, 1, 2, 0, 1]


def test_the_replay_takes_the_stated_memory() -> None:
    replay_buffer = ReplayBuffer(3, 50, 17, 6, 10, CPU)
    tensors = [
        t for t in vars(replay_buffer).values() if torch.is_tensor(t) and t.dtype == torch.float32
    ]
    # Columns share memory.
    storages = [t.untyped_storage() for t in tensors if t.dim()]
    held = {storage.data_ptr(): storage.nbytes() for storage in storages}
    assert sum(held.values()) == 3 * 50 * ReplayBuffer.row_bytes(17, 6)
