"""State entropy as an intrinsic reward."""

import torch
from torch import Tensor

# Keeps the logarithm finite where a state was visited more than k times.
SMALLEST_DISTANCE = 1e-6


def state_entropy_reward(observation: Tensor, visited: Tensor, neighbours: int) -> Tensor:
    """Log of the distance to the k-th nearest visited state.

    Source: PEBBLE (Lee et al. 2021, arXiv 2106.05091), equation 4.

    Args:
        observation: [M, B, O], themselves among the visited.
        visited: [M, N, O].
        neighbours: k; fewer if fewer states were visited.

    Returns:
        [M, B].
    """
    k = min(neighbours + 1, visited.shape[1])  # the nearest is the state itself
    distance = (
        torch.cdist(observation, visited, compute_mode="donot_use_mm_for_euclid_dist")
        .kthvalue(k, dim=-1)
        .values
    )
    return distance.clamp_min(SMALLEST_DISTANCE).log()
