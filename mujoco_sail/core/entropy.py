"""State entropy as an intrinsic reward."""

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
