"""Temporal cropping: the reward is fitted to random sub-segments.

Sources: SURF (Park et al. 2022, arXiv 2203.10050), section 4.2; QPA (Hu et al. 2024,
arXiv 2305.17400), its released script.
"""

import torch
from torch import Tensor

from mujoco_sail.core.streams import Streams


def crops(valid: Tensor, shortest: Tensor, longest: Tensor, streams: Streams) -> Tensor:
    """Crops both segments of every pair to a common random length, at independent positions.

    Lengths in steps are uniform from the shortest to the longest, both included; positions are
    uniform over all where the crop fits. A segment shorter than its crop is not cropped.

    Args:
        valid: 1 at steps of a segment, 0 at the padding that follows, [M, ..., 2, T].
        shortest: Length of the shortest crop as a fraction of T, [M].
        longest: Length of the longest crop as a fraction of T, at least `shortest`, [M].
        streams: Random streams of lengths and positions.

    Returns:
        1 at steps of the crops, 0 elsewhere, [M, ..., 2, T].
    """
    steps, pairs = valid.shape[-1], valid.shape[1:-2]
    low, high = (
        (share * steps).round().clamp_min(1).view(-1, *[1] * (len(pairs) + 1))
        for share in (shortest, longest)
    )
    of_length, of_place = torch.split(streams.uniform(*pairs, 3), [1, 2], -1)
    length = torch.minimum(low + (of_length * (high - low + 1)).floor(), high)  # [M, ..., 1]
    room = (valid.sum(-1) - length).clamp_min(0)  # [M, ..., 2]
    first = torch.minimum((of_place * (room + 1)).floor(), room)
    at = torch.arange(steps, device=valid.device)
    first, length = first.unsqueeze(-1), length.unsqueeze(-1)
    return valid * ((first <= at) & (at < first + length))
