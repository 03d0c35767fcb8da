"""The synthetic teacher: labels for pairs of segments, batched over members.

Source: B-Pref (Lee et al. 2021, arXiv 2111.03026), Algorithm 1. Thresholds apply once.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from mujoco_sail.core.streams import Streams
from mujoco_sail.recipes.task import Teacher


@dataclass(frozen=True)
class TeacherLabels:
    """What the teacher says of pairs, each [M, P].

    Attributes:
        label: 1 where the first segment is preferred, 0 where the second, 0.5 for a tie.
        answered: False where the teacher refuses to compare.
    """

    label: Tensor
    answered: Tensor


def normalised_return(
    task_reward: Tensor, valid: Tensor, reward_range: tuple[float, float], myopic: float
) -> Tensor:
    """Discounted sum of the rewards mapped to [0, 1]: the unit of every threshold and of beta.

    Args:
        task_reward: [M, P, T].
        valid: 1 at steps of the segment, 0 at padding, [M, P, T].
        reward_range: Task rewards that map to 0 and to 1.
        myopic: Discount per step, counted back from the segment's last valid step.

    Returns:
        [M, P].
    """
    low, high = reward_range
    return (_weights(valid, myopic) * (task_reward - low) / (high - low)).sum(-1)


def label_pairs(
    teacher: Teacher,
    reward_range: tuple[float, float],
    first: tuple[Tensor, Tensor],
    second: tuple[Tensor, Tensor],
    recent_reward: Tensor,
    streams: Streams,
) -> TeacherLabels:
    """Compares pairs of segments.

    Args:
        teacher: Its rationality and its faults.
        reward_range: Task rewards per step that count as 0 and as 1.
        first: Task rewards and validity of the first segments, each [M, P, T].
        second: The same of the second segments.
        recent_reward: Mean task reward per step of the member's newest episodes, [M]; the
            thresholds of `skip` and `equal` are shares of a segment's return at that level.
        streams: The teacher's own randomness.
    """
    return_1 = normalised_return(*first, reward_range, teacher.myopic)
    return_2 = normalised_return(*second, reward_range, teacher.myopic)
    margin = return_1 - return_2

    low, high = reward_range
    whole = _weights(torch.ones_like(first[1]), teacher.myopic).sum(-1)
    level = (recent_reward.unsqueeze(1) - low) / (high - low) * whole  # [M, P]

    # sigmoid(beta * margin); beta = inf is a step function with 0.5 at an exact tie.
    preferred = torch.where(margin == 0, 0.5, torch.sigmoid(teacher.beta * margin))
    draws = streams.uniform(2, margin.shape[1])
    label = (draws[:, 0] < preferred).to(margin.dtype)
    flipped = draws[:, 1] < teacher.mistake
    label = torch.where(flipped, 1 - label, label)
    if teacher.beta == torch.inf:
        label = torch.where(margin == 0, 0.5, label)
    label = torch.where(margin.abs() < teacher.equal * level, 0.5, label)
    answered = torch.maximum(return_1, return_2) >= teacher.skip * level
    return TeacherLabels(label, answered | (teacher.skip == 0))


def _weights(valid: Tensor, myopic: float) -> Tensor:
    """myopic^(steps after this one) at valid steps, 0 at padding, [M, P, T]."""
    later = valid.flip(-1).cumsum(-1).flip(-1) - valid
    return valid * myopic**later
