"""The synthetic teacher: labels for pairs of segments, batched over members.

Source: B-Pref (Lee et al. 2021, arXiv 2111.03026), Algorithm 1. Thresholds apply once. Two units
are ours, so that a number means the same on every task and at every stage of learning:

- beta multiplies the difference of returns divided by its root mean square over the candidate
  pairs of one round, which are drawn uniformly from the query window. Exact ties are left out of
  the mean, because otherwise a sparse reward would have almost no noise. B-Pref's beta is per unit
  of return: almost the oracle where segments differ by tens, almost a coin where by hundredths.
- The thresholds of `skip` and `equal` are shares of what a segment of the recent mean reward earns
  above a floor, the smaller of `reward_range`'s low end and the lowest reward in the window. Above
  it no return and no mean is negative. Where no reward is below a low end of 0, as on DeepMind
  Control, they are B-Pref's shares of the recent mean return.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mujoco_sail.core.memberwise import memberwise
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


@dataclass(frozen=True)
class RecentRewards:
    """What members earn per step lately: the measure of the thresholds; each [M].

    Attributes:
        floor: At most the low end of `reward_range`, and at most any recent task reward.
        mean_above: Mean task reward less the floor.
    """

    floor: Tensor
    mean_above: Tensor

    @classmethod
    def of(cls, task_rewards: Sequence[Tensor], low: float) -> "RecentRewards":
        """Takes the task rewards in each member's query window, M of [N]."""
        floors = [rewards.min().clamp_max(low) for rewards in task_rewards]
        # The mean of differences: exactly 0 where every reward is the floor.
        # Summed by one thread: PyTorch's sum of many numbers depends on how many there are.
        above = [
            rewards.new_tensor((rewards - floor).cpu().numpy().mean())
            for rewards, floor in zip(task_rewards, floors, strict=True)
        ]
        return cls(torch.stack(floors), torch.stack(above))


def normalised_return(
    task_reward: Tensor, valid: Tensor, reward_range: tuple[float, float], myopic: float
) -> Tensor:
    """Discounted sum of the rewards mapped to [0, 1].

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
    recent: RecentRewards,
    streams: Streams,
) -> TeacherLabels:
    """Compares pairs of segments.

    Args:
        teacher: Its rationality and its faults.
        reward_range: Task rewards per step that count as 0 and as 1.
        first: Task rewards and validity of the first segments, each [M, P, T].
        second: The same of the second segments; how much the P pairs differ is the unit of beta.
        recent: The measure of `skip` and `equal`.
        streams: The teacher's own randomness.
    """
    return_1 = normalised_return(*first, reward_range, teacher.myopic)
    return_2 = normalised_return(*second, reward_range, teacher.myopic)
    margin = return_1 - return_2
    label = _strict_labels(teacher, margin, streams)

    low, high = reward_range
    whole = _weights(torch.ones_like(first[1]), teacher.myopic).sum(-1)
    level = recent.mean_above.unsqueeze(1) / (high - low) * whole  # [M, P]
    label = torch.where(margin.abs() < teacher.equal * level, 0.5, label)

    floor = recent.floor.view(-1, 1, 1)
    better = torch.maximum(
        *(
            normalised_return(rewards - floor, valid, (0.0, high - low), teacher.myopic)
            for rewards, valid in (first, second)
        )
    )
    return TeacherLabels(label, better >= teacher.skip * level)


def _strict_labels(teacher: Teacher, margin: Tensor, streams: Streams) -> Tensor:
    """Labels before any threshold: noise, then mistakes; 0.5 at an exact tie for a sure teacher."""
    exact = margin.double()  # whose squares neither overflow nor vanish
    differing = (margin != 0).sum(1, keepdim=True)
    unit = (exact.square().sum(1, keepdim=True) / differing).sqrt()
    # sigmoid(beta * margin / unit); beta = inf is a step function with 0.5 at an exact tie.
    rational = memberwise(torch.sigmoid, teacher.beta * exact / unit)
    preferred = torch.where(margin == 0, 0.5, rational)
    draws = streams.uniform(2, margin.shape[1])
    label = (draws[:, 0] < preferred).to(margin.dtype)
    flipped = draws[:, 1] < teacher.mistake
    label = torch.where(flipped, 1 - label, label)
    if teacher.beta == torch.inf:
        label = torch.where(margin == 0, 0.5, label)
    return label


def _weights(valid: Tensor, myopic: float) -> Tensor:
    """myopic^(steps after this one) at valid steps, 0 at padding, [M, P, T]."""
    later = valid.flip(-1).cumsum(-1).flip(-1) - valid
    return valid * memberwise(lambda steps: myopic**steps, later)
