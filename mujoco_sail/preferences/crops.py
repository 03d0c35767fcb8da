"""Temporal cropping: pairs of segments of which a fit sees a random stretch.

Source: SURF (Park et al. 2022, arXiv 2203.10050), section 4.2.
"""

import torch
from torch import Tensor

from mujoco_sail.core.streams import Streams


def crops(valid: Tensor, shortest: Tensor, streams: Streams) -> Tensor:
    """Crops both segments of every pair to a common random length, at places of their own.

    Lengths are uniform in {shortest T, ..., T} steps, and so are the places where a crop fits. A
    segment that is shorter than its crop stays as it is.

    Args:
        valid: 1 at steps of a segment, 0 at the padding that follows, [M, ..., 2, T].
        shortest: Length of the shortest crop as a share of T, [M]; 1 for no cropping.
        streams: Source of lengths and places.

    Returns:
        1 at the steps that remain, [M, ..., 2, T].
    """
    steps, pairs = valid.shape[-1], valid.shape[1:-2]
    low = (shortest * steps).round().clamp_min(1).view(-1, *[1] * (len(pairs) + 1))
    of_length, of_place = torch.split(streams.uniform(*pairs, 3), [1, 2], -1)
    length = (low + (of_length * (steps - low + 1)).floor()).clamp_max(steps)  # [M, ..., 1]
    room = (valid.sum(-1) - length).clamp_min(0)  # [M, ..., 2]
    first = torch.minimum((of_place * (room + 1)).floor(), room)
    at = torch.arange(steps, device=valid.device)
    first, length = first.unsqueeze(-1), length.unsqueeze(-1)
    return valid * ((first <= at) & (at < first + length))
