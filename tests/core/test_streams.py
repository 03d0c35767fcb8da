"""Random numbers of a member are its own."""

from __future__ import annotations

import torch

from mujoco_sail.core.streams import Streams


def test_a_member_draws_the_same_random_numbers_alone_and_in_a_stack() -> None:
    device = torch.device("cpu")
    many, one = Streams(range(9), "noise", device), Streams([4], "noise", device)
    assert torch.equal(many.normal(3, 2)[4], one.normal(3, 2)[0])
    assert torch.equal(many.integers(100, 7)[4], one.integers(100, 7)[0])
    assert torch.equal(many.uniform(5)[4], one.uniform(5)[0])
    other = Streams([4], "another purpose", device)
    assert not torch.equal(Streams([4], "noise", device).normal(3), other.normal(3))
