"""State entropy reward."""

from __future__ import annotations

import pytest
import torch

from mujoco_sail.core.entropy import state_entropy_reward


def test_the_state_entropy_reward_is_the_log_distance_to_the_kth_neighbour() -> None:
    visited = torch.tensor([[[0.0], [1.0], [3.0], [7.0]]])
    reward = state_entropy_reward(visited[:, :1], visited, 2)
    assert reward.exp().item() == pytest.approx(3.0)
