"""State entropy as an intrinsic reward, and the running moments that normalise it."""

import torch
from torch import Tensor

# Keeps the logarithm finite when a state was visited more than k times.
SMALLEST_DISTANCE = 1e-6


def state_entropy_reward(observation: Tensor, visited: Tensor, neighbours: int) -> Tensor:
    """Log of the distance to the k-th nearest visited state.

    Source: PEBBLE (Lee et al. 2021, arXiv 2106.05091), equation 4.

    Args:
        observation: States to reward, [M, B, O]; each must also be in `visited`.
        visited: Visited states, [M, N, O].
        neighbours: k; reduced if fewer states were visited.

    Returns:
        Intrinsic reward, [M, B].
    """
    k = min(neighbours + 1, visited.shape[1])  # the nearest neighbour is the state itself
    distance = (
        torch.cdist(observation, visited, compute_mode="donot_use_mm_for_euclid_dist")
        .kthvalue(k, dim=-1)
        .values
    )
    return distance.clamp_min(SMALLEST_DISTANCE).log()


def add_to_moments(moments: Tensor, values: Tensor, used: Tensor) -> None:
    """Adds values to the running moments of each member, in place.

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
