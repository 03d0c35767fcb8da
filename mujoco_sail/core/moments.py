"""Number, mean and variance of values that arrive in parts, per member."""

import torch
from torch import Tensor


def add_to_moments(moments: Tensor, values: Tensor, used: Tensor) -> None:
    """Adds values to the moments, in place.

    Source: Chan, Golub and LeVeque 1979, Updating Formulae and a Pairwise Algorithm for Computing
    Sample Variances.

    Args:
        moments: Number, mean and variance of the values so far, [M, 3]; zeros at the start.
        values: Newest values, [M, N].
        used: 1 for values to add, 0 for values to leave out, [M, N].
    """
    count, mean, variance = moments.unbind(1)
    number = used.sum(-1)
    total = (count + number).clamp_min(1)
    newest = (used * values).sum(-1) / number.clamp_min(1)
    squares = (used * (values - newest.unsqueeze(1)).square()).sum(-1)
    step, share = newest - mean, number / total
    spread = (variance * count + squares + step.square() * count * share) / total
    moments.copy_(torch.stack([count + number, mean + step * share, spread], 1))
