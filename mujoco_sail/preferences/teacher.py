"""Synthetic teacher: preference labels for pairs of segments, batched over members.

Source: B-Pref (Lee et al. 2021, arXiv 2111.03026), Algorithm 1. Each threshold is multiplied by its
setting once. Two units differ from B-Pref, so that a setting means the same on every task and at
every stage of learning:

- beta multiplies the difference of returns divided by its root mean square over the candidate
  pairs of one round: drawn uniformly from the query window, unless an agent draws them otherwise.
  Exact ties are excluded from the mean, because otherwise a sparse reward would have almost no
  noise. B-Pref's beta is per unit of return: the teacher is almost an oracle if returns differ by
  tens, and almost random if they differ by hundredths.
- The thresholds of `skip` and `equal` are shares of the return, above a floor, of a whole segment
  all of whose rewards are the mean reward in the query window. The floor is the lower end of
  `reward_range` or the lowest reward in the query window, whichever is smaller, so that no return
  or mean above it is negative. If the lower end is 0 and no reward is negative, as on DeepMind
  Control, they equal B-Pref's shares of the recent mean return. With `myopic` they compare
  discounted returns, B-Pref's undiscounted ones.

The fault `similarity` is not in B-Pref: it flips preferences between segments that look alike. Li,
Kethireddy and Das 2026 (arXiv 2601.01904) compare agents under errors that depend on the segments'
features, similarity among them. The formula is our own: theirs was not available to us.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mujoco_sail.core.products import memberwise
from mujoco_sail.core.streams import Streams
from mujoco_sail.recipes.task import Teacher


@dataclass(frozen=True)
class TeacherLabels:
    """Answers of the teacher, each [M, P].

    Attributes:
        label: 1 where the first segment is preferred, 0 where the second, 0.5 for a tie.
        answered: False where the teacher skips the pair.
    """

    label: Tensor
    answered: Tensor


@dataclass(frozen=True)
class RecentRewards:
    """Statistics of recent task rewards per step, for the thresholds; each [M].

    Attributes:
        floor: The lower end of `reward_range` or the lowest recent task reward, if smaller.
        mean_above: Mean task reward minus the floor.
    """

    floor: Tensor
    mean_above: Tensor

    @classmethod
    def of(cls, task_rewards: Sequence[Tensor], low: float) -> "RecentRewards":
        """Computes the statistics of the task rewards in each member's query window, M of [N]."""
        floors = [rewards.min().clamp_max(low) for rewards in task_rewards]
        # The mean of differences is exactly 0 if every reward equals the floor. It is summed by
        # one thread, because PyTorch's result for large sums depends on the number of threads.
        above = [
            rewards.new_tensor((rewards - floor).cpu().numpy().mean())
            for rewards, floor in zip(task_rewards, floors, strict=True)
        ]
        return cls(torch.stack(floors), torch.stack(above))


def scaled_return(task_reward: Tensor, valid: Tensor, width: float, myopic: float) -> Tensor:
    """Discounted return of segments, relative to the width of the range of rewards.

    Rewards are not shifted: a shift would prefer the longer or the shorter of two segments.

    Args:
        task_reward: Task rewards, [M, P, T].
        valid: 1 at steps of the segment, 0 at padding, [M, P, T].
        width: Upper minus lower end of `reward_range`.
        myopic: Discount per step before the segment's last valid step.

    Returns:
        Returns, [M, P].
    """
    return (_weights(valid, myopic) * task_reward / width).sum(-1)


def label_pairs(
    teacher: Teacher,
    reward_range: tuple[float, float],
    first: tuple[Tensor, Tensor],
    second: tuple[Tensor, Tensor],
    recent: RecentRewards,
    streams: Streams,
) -> TeacherLabels:
    """Labels pairs of segments.

    Args:
        teacher: Settings of the teacher.
        reward_range: Lowest and highest task reward per step.
        first: Task rewards and validity of the first segments, each [M, P, T].
        second: Task rewards and validity of the second segments. The root mean square difference
            of returns over the P pairs is the unit of beta.
        recent: Statistics of recent task rewards, for `skip` and `equal`.
        streams: Random streams of the teacher.

    Returns:
        Labels, and which pairs the teacher answers, both [M, P].
    """
    low, high = reward_range
    return_1 = scaled_return(*first, high - low, teacher.myopic)
    return_2 = scaled_return(*second, high - low, teacher.myopic)
    margin = return_1 - return_2
    label = _strict_labels(teacher, margin, streams)

    whole = _weights(torch.ones_like(first[1]), teacher.myopic).sum(-1)
    level = recent.mean_above.unsqueeze(1) / (high - low) * whole  # [M, P]
    label = torch.where(margin.abs() < teacher.equal * level, 0.5, label)

    floor = recent.floor.view(-1, 1, 1)
    better = torch.maximum(
        *(
            scaled_return(rewards - floor, valid, high - low, teacher.myopic)
            for rewards, valid in (first, second)
        )
    )
    return TeacherLabels(label, better >= teacher.skip * level)


def flip_similar(
    label: Tensor, inputs: Tensor, valid: Tensor, fraction: float, streams: Streams
) -> Tensor:
    """Flips labels; more similar segments have a higher probability of a flip.

    The distance of two segments is Euclidean, between their mean observations and actions, each in
    units of its standard deviation over the candidate segments. The probability depends on the rank
    of the distance among the P pairs, so that `fraction` means the same on every task: it falls
    linearly from twice `fraction` for the closest pair to 0 for the farthest.

    Args:
        label: Labels in {0, 0.5, 1}, [M, P]; ties stay ties.
        inputs: Observations and actions of both segments, [M, P, 2, T, O + A].
        valid: 1 at steps of a segment, 0 at padding, [M, P, 2, T].
        fraction: Mean probability of a flip over the P pairs, at most 0.5; for P = 1 that pair's.
        streams: Random streams of the flips; P numbers are drawn.
    """
    exact, steps = inputs.double(), valid.double().unsqueeze(-1)
    mean = (exact * steps).sum(3) / steps.sum(3)  # [M, P, 2, O + A]
    deviation = mean.std((1, 2), correction=0).unsqueeze(1)
    gap = mean[:, :, 0] - mean[:, :, 1]
    scaled = torch.where(deviation > 0, gap / deviation, 0)  # constant features say nothing
    rank = scaled.square().sum(-1).argsort(dim=1, stable=True).argsort(1)  # 0 is the closest
    last = label.shape[1] - 1
    probability = 2 * fraction * (1 - rank / last) if last else fraction
    return torch.where(streams.uniform(label.shape[1]) < probability, 1 - label, label)


def margin_unit(margin: Tensor) -> Tensor:
    """The unit of beta: root mean square of the margins [M, P] that are not 0, [M, 1]."""
    exact = margin.double()  # its squares neither overflow nor underflow
    return (exact.square().sum(1, keepdim=True) / (margin != 0).sum(1, keepdim=True)).sqrt()


def _strict_labels(teacher: Teacher, margin: Tensor, streams: Streams) -> Tensor:
    """Labels with noise and mistakes, before thresholds; an exact tie is 0.5 if beta = inf."""
    exact, unit = margin.double(), margin_unit(margin)
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
