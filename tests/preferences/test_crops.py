"""Crops: one length per pair, independent positions, no padding."""

from __future__ import annotations

from typing import Any

import torch
from helpers.tiny import CPU
from torch import Tensor

from mujoco_sail.core.streams import Streams
from mujoco_sail.preferences.pairs import crops

STEPS = 20


def drawn(
    shortest: list[float],
    count: int = 2000,
    valid: Tensor | None = None,
    longest: float = 1.0,
) -> Tensor:
    """Crops of many pairs, [M, count, 2, STEPS]."""
    members = len(shortest)
    whole = torch.ones(members, count, 2, STEPS) if valid is None else valid
    streams = Streams(range(members), "test", CPU)
    return crops(whole, torch.tensor(shortest), torch.full((members,), longest), streams)


def test_both_segments_of_a_pair_keep_the_same_number_of_consecutive_steps() -> None:
    for share, longest, lengths in (
        (0.9, 1.0, {18, 19, 20}),
        (0.55, 1.0, set(range(11, 21))),
        (0.7, 0.9, set(range(14, 19))),
        (0.74, 0.91, set(range(15, 19))),
        (0.02, 0.1, {1, 2}),
    ):
        left = drawn([share], longest=longest)
        length = left.sum(-1)
        assert torch.equal(length[..., 0], length[..., 1])
        assert set(length.flatten().tolist()) == lengths
        steps_in_a_row = (left[..., 1:] * left[..., :-1]).sum(-1)
        assert torch.equal(steps_in_a_row, length - 1)


def test_lengths_and_positions_are_uniform_and_positions_independent() -> None:
    left = drawn([0.9], 6000)
    for length in (18, 19, 20):
        chosen = left[0][left[0, :, 0].sum(-1) == length].argmax(-1)  # first steps, [P, 2]
        assert abs(len(chosen) - 2000) < 200
        places = 21 - length
        both = (chosen[:, 0] * places + chosen[:, 1]).bincount(minlength=places**2)
        assert len(both) == places**2
        assert (both - len(chosen) / places**2).abs().max() < 70


def test_a_share_of_one_keeps_every_step_and_shares_are_each_members_own() -> None:
    left = drawn([1.0, 0.5, 1.0])
    assert (left[0] == 1).all()
    assert (left[2] == 1).all()
    assert left[1].sum(-1).min() == STEPS / 2
    assert torch.equal(left[1:2], drawn([1.0, 0.5])[1:2])


def test_no_crop_reaches_into_padding_and_a_short_segment_stays_whole() -> None:
    valid = torch.ones(1, 500, 2, STEPS)
    valid[:, :, 0, 19:] = 0  # a crop of 18 steps has two possible positions
    valid[:, :, 1, 5:] = 0
    left = drawn([0.9], valid=valid)
    assert (left <= valid).all()
    assert torch.equal(left[:, :, 1], valid[:, :, 1])
    assert set(left[:, :, 0].sum(-1).flatten().tolist()) == {18.0, 19.0}


def test_a_crop_computed_by_hand() -> None:
    """Lengths 2, 3 and 4 of four steps; 0.4 gives length 3, which has two possible positions."""

    class Fixed:
        def uniform(self, *shape: int) -> Tensor:
            assert shape == (1, 3)
            return torch.tensor([[[0.4, 0.49, 0.5]]])

    fixed: Any = Fixed()
    left = crops(torch.ones(1, 1, 2, 4), torch.tensor([0.5]), torch.ones(1), fixed)
    assert left.tolist() == [[[[1, 1, 1, 0], [0, 1, 1, 1]]]]
