"""Effect of query selection on the gradient of SAIL's J.

T1 + T2 is an expectation over pairs drawn by the policy. A label session instead selects (picks)
the most informative pairs, by a rule that uses the predictions of an ensemble. Three uses of the
same number of labels are compared:

    T1 alone          all pairs are picked; T1 is the mean over them, T2 is left out
    picked            all pairs are picked; T1 and T2 are means over them
    half uniform      half of the pairs are picked, half drawn uniformly; T1 is the mean over all
                      of them, T2 over the uniform half

The mean of the estimate and its variance over pairs, trajectories and labels are exact sums over
all pairs of visit counts, weighted by their probability in the session.

Sources: SAIL (arXiv 2406.15567); PEBBLE (arXiv 2106.05091), section 4.2, for the rules.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product

import pandas as pd
import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from mujoco_sail.core.streams import seed_for
from mujoco_sail.preferences.queries import disagreement, entropy, uniform
from mujoco_sail.theory.decisions import Decisions, draw
from mujoco_sail.theory.truncation import ACTIONS, STATES, T1_ALONE, USUAL, compare
from mujoco_sail.theory.visits import Visits

RULES = {"uniform": uniform, "disagreement": disagreement, "entropy": entropy}
HORIZON = 4
ENSEMBLE = 3
SPREAD = 0.5  # standard deviation of the ensemble's rewards, in units of that of a step's reward
AGREEMENTS = (0.0, 0.9)
SHARES = (1.0, 0.5, 0.2, 0.1)
PICKED, HALF = "picked", "half uniform"
TIE = 12  # decimals to which a rule's values are compared


@dataclass(frozen=True)
class Pairs:
    """All N unordered pairs of visit counts of one problem under one condition.

    Attributes:
        probability: Probability that the policy draws the pair, [N].
        difference: Difference of the visit counts, [N, D].
        preference: The oracle's P(y = 1), [N].
        margin: R(sigma_1) - R(sigma_2), [N].
        score: E[ sum of both scores | counts ], [N, D].
        score_square: E[ |sum of both scores|^2 | counts ], [N].
    """

    probability: Tensor
    difference: Tensor
    preference: Tensor
    margin: Tensor
    score: Tensor
    score_square: Tensor

    @cached_property
    def labels(self) -> tuple[Tensor, Tensor, Tensor]:
        """P(y), log P_nu(y) and its derivative by the margin, for y = 1 and y = 0, [2, N] each."""
        sides = torch.stack([self.margin, -self.margin])
        sign = torch.tensor([[1.0], [-1.0]], dtype=sides.dtype)
        chance = torch.stack([self.preference, 1 - self.preference])
        return chance, logsigmoid(sides), sign * torch.sigmoid(-sides)

    @cached_property
    def products(self) -> tuple[Tensor, Tensor]:
        """|difference|^2 and difference . score, [N] each."""
        return (self.difference**2).sum(-1), (self.difference * self.score).sum(-1)

    def terms(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        """T1 and T2, [D] each, for probabilities [N] of the pairs; b is the mean of log P."""
        chance, log_p, slope = self.labels
        mean = weight * (chance * log_p).sum(0)
        t1 = (weight * (chance * slope).sum(0)) @ self.difference
        return t1, (mean - weight * mean.sum()) @ self.score

    def variance(self, weight: Tensor, times: float = 1) -> Tensor:
        """Variance (trace of the covariance) of a single label's T1 + `times` T2."""
        chance, log_p, slope = self.labels
        difference_square, across = self.products
        t1, t2 = self.terms(weight)
        gap = times * (log_p - weight @ (chance * log_p).sum(0))
        square = (
            slope**2 * difference_square + 2 * slope * gap * across + gap**2 * self.score_square
        )
        return weight @ (chance * square).sum(0) - ((t1 + times * t2) ** 2).sum()


def pairs_of(decisions: Decisions, visits: Visits) -> Iterator[Pairs]:
    """Pairs of every problem under the first condition."""
    policy, transitions = decisions.policy(), decisions.transitions
    reached = visits.forward(policy, transitions)
    exact = decisions.scores(policy, decisions.q_gradients(policy, decisions.horizon))
    moments = visits.score_moments(policy, transitions, reached, exact)
    everything = (reached[-1].sum(-1), *moments)
    for problem, (all_p, all_first, all_second) in enumerate(
        zip(*(x[:, 0] for x in everything), strict=True)
    ):
        possible = all_p > 0
        p = all_p[possible]
        first, second = all_first[possible] / p[:, None], all_second[possible] / p
        i, j = torch.triu_indices(len(p), len(p)).unbind()
        counts = visits.counts[possible]
        difference = counts[i] - counts[j]
        yield Pairs(
            probability=p[i] * p[j] * torch.where(i == j, 1, 2),
            difference=difference,
            preference=torch.sigmoid(difference @ decisions.truth[problem].flatten()),
            margin=difference @ decisions.reward[problem].flatten(),
            score=first[i] + first[j],
            score_square=second[i] + second[j] + 2 * (first[i] * first[j]).sum(-1),
        )


def pick(value: Tensor, probability: Tensor, share: float) -> Tensor:
    """Probabilities of the pairs after the share with the highest values is selected, [N].

    Pairs of equal value are in random order, so the same fraction of each is selected.
    """
    levels, level = torch.unique(-value.round(decimals=TIE), return_inverse=True)
    mass = torch.zeros_like(levels).index_add(0, level, probability)
    before = mass.cumsum(0) - mass
    kept = ((share - before) / mass).clamp(0, 1)
    weight = probability * kept[level]
    return weight / weight.sum()


def ensemble(seed: int, reward: Tensor) -> Tensor:
    """Draws an ensemble of rewards, [E, D], whose mean is nu, [Z, A]."""
    generator = torch.Generator().manual_seed(seed_for(seed, "ensemble"))
    noise = torch.randn(ENSEMBLE, reward.numel(), generator=generator, dtype=reward.dtype)
    return reward.flatten() + SPREAD * (noise - noise.mean(0))


def measure(seeds: Sequence[int]) -> pd.DataFrame:
    """Measures all sessions: a row per seed, agreement, rule, share and session.

    `error`, `cosine`: relative error and cosine of the mean of T1 + T2 with respect to grad J.
    `noise`: standard deviation of a single label's T1 + T2, divided by |grad J|, so that a session
    of n labels has the root mean square error sqrt(error^2 + noise^2 / n). `t1_error`: |T1 - its
    value over all pairs| / |grad J|. `t2_error`, `t2_cosine`: relative error and cosine of the mean
    of T2 with respect to its value over all pairs.
    """
    visits = Visits.of(STATES, ACTIONS, HORIZON)
    rows = []
    for agreement in AGREEMENTS:
        decisions = draw(seeds, STATES, ACTIONS, HORIZON, agreement, [USUAL])
        for seed, reward, pairs in zip(
            seeds, decisions.reward, pairs_of(decisions, visits), strict=True
        ):
            setting = {"seed": seed, "agreement": agreement}
            rows += [setting | row for row in sessions(pairs, ensemble(seed, reward))]
    return pd.DataFrame(rows)


def sessions(pairs: Pairs, rewards: Tensor) -> Iterator[dict[str, object]]:
    """Measures the sessions of every rule and share, for an ensemble of rewards [E, D]."""
    predicted = torch.sigmoid(rewards @ pairs.difference.mT)
    drawn = pairs.probability
    t1, t2 = pairs.terms(drawn)
    truth = t1 + t2
    half_uniform = pairs.variance(drawn, times=2)  # half of the labels count twice in T2
    for (rule, value), share in product(RULES.items(), SHARES):
        picked = pick(value(predicted[None])[0], drawn, share)
        picked_t1, picked_t2 = pairs.terms(picked)
        without_t2 = pairs.variance(picked, times=0)
        for session, its_t1, its_t2, variance in (
            (T1_ALONE, picked_t1, torch.zeros_like(t2), without_t2),
            (PICKED, picked_t1, picked_t2, pairs.variance(picked)),
            (HALF, (picked_t1 + t1) / 2, t2, (without_t2 + half_uniform) / 2),
        ):
            error, cosine = compare(its_t1 + its_t2, truth)
            t2_error, t2_cosine = compare(its_t2, t2)
            yield {
                "rule": rule,
                "share": share,
                "session": session,
                "error": float(error),
                "cosine": float(cosine),
                "noise": float(variance.sqrt() / truth.norm()),
                "t1_error": float((its_t1 - t1).norm() / truth.norm()),
                "t2_error": float(t2_error),
                "t2_cosine": float(t2_cosine),
            }
