"""Random streams: a member's numbers depend on its seed only."""

from __future__ import annotations

import torch
from helpers.tiny import CPU

from mujoco_sail.core.streams import Draws, Streams


def test_a_member_draws_the_same_random_numbers_alone_and_in_a_stack() -> None:
    device = torch.device("cpu")
    many, one = Streams(range(9), "noise", device), Streams([4], "noise", device)
    assert torch.equal(many.normal(3, 2)[4], one.normal(3, 2)[0])
    assert torch.equal(many.integers(100, 7)[4], one.integers(100, 7)[0])
    assert torch.equal(many.uniform(5)[4], one.uniform(5)[0])
    other = Streams([4], "another purpose", device)
    assert not torch.equal(Streams([4], "noise", device).normal(3), other.normal(3))


def draws(ahead: int) -> Draws:
    made = Draws(Streams([3, 5], "update", CPU), "uniform", [4, 2])
    made.ahead = ahead
    return made


def test_draws_made_in_advance_equal_those_made_one_by_one() -> None:
    one, several = draws(1), draws(3)
    for _ in range(7):
        assert torch.equal(one.next(), several.next())


def test_draws_resume_from_any_state() -> None:
    for ahead in (1, 3):
        for done in range(5):
            through, loaded = draws(ahead), draws(ahead)
            for _ in range(done):
                through.next()
            loaded.next()
            loaded.load(through.state())
            assert all(torch.equal(through.next(), loaded.next()) for _ in range(5)), (ahead, done)
