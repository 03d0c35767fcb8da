"""Crops: their lengths and places."""

from __future__ import annotations

import torch
from helpers.tiny import CPU
from torch import Tensor

from mujoco_sail.core.streams import Streams
from mujoco_sail.preferences.crops import crops


def cropped(valid: Tensor, shortest: float, longest: float) -> Tensor:
    shares = (torch.full((len(valid),), share) for share in (shortest, longest))
    return crops(valid, *shares, Streams(range(len(valid)), "crops", CPU))


def first_and_length(steps: Tensor) -> tuple[Tensor, Tensor]:
    """Of crops; each is in one piece."""
    first, length = steps.argmax(-1), steps.sum(-1).long()
    at = torch.arange(steps.shape[-1])
    inside = (at >= first.unsqueeze(-1)) & (at < (first + length).unsqueeze(-1))
    assert torch.equal(steps, inside.to(steps.dtype))
    return first, length


def test_both_segments_of_a_pair_have_one_length_and_places_of_their_own() -> None:
    """Lengths 6 and 7 of 8 steps: a crop of 7 has 2 places, one of 6 has 3."""
    first, length = first_and_length(cropped(torch.ones(2, 6000, 2, 8), 0.75, 0.9))
    assert torch.equal(length[..., 0], length[..., 1])
    values, counts = length[0, :, 0].unique(return_counts=True)
    assert values.tolist() == [6, 7]
    assert (counts - 3000).abs().max() < 180  # 4.5 standard deviations
    for size, places in ((6, 3), (7, 2)):
        pairs = first[0][length[0, :, 0] == size]
        joint = torch.bincount(pairs[:, 0] * places + pairs[:, 1], minlength=places**2)
        assert len(joint) == places**2
        expected = len(pairs) / places**2
        assert (joint - expected).abs().max() < 4.5 * expected**0.5
    assert not torch.equal(first[0], first[1])


def test_padding_stays_out_and_a_segment_shorter_than_its_crop_stays_whole() -> None:
    valid = torch.ones(1, 500, 2, 10)
    valid[:, :, 0, 8:] = 0
    valid[:, :, 1, 3:] = 0
    steps = cropped(valid, 0.5, 0.6)
    first, length = first_and_length(steps)
    assert set(length[0, :, 0].tolist()) == {5, 6}
    assert (first + length)[..., 0].max() == 8
    assert torch.equal(steps[:, :, 1], valid[:, :, 1])


def test_crops_as_long_as_the_segment_are_the_segment() -> None:
    valid = torch.ones(1, 50, 2, 10)
    assert torch.equal(cropped(valid, 1.0, 1.0), valid)
