"""Error of the gradient of SAIL's J when grad Q is truncated after a few steps.

    J(nu) = E_{sigma_1, sigma_2 ~ pi_nu, y ~ oracle} [ log P_nu(y | sigma_1, sigma_2) ]
    T1    = E[ grad log P_nu(y) ]
    T2    = E[ log P_nu(y) sum_i sum_t grad log pi_nu(a_t|s_t) ]

over all pairs of trajectories of H steps. With the score of `decisions.Decisions.scores`, grad Q is

    exact               T1 + T2 is grad J
    n steps             expected rewards of n steps, independent of the segment; 1 in the agents
    own return          the segment's own rewards from t on, with the exact E_{a'} grad Q as
                        baseline: biased, because log P depends on the same rewards

Source: SAIL (arXiv 2406.15567).
"""

from collections.abc import Iterator, Sequence
from itertools import product

import pandas as pd
import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from mujoco_sail.core.objectives import log_likelihood
from mujoco_sail.theory.decisions import Condition, Decisions, draw, expected
from mujoco_sail.theory.visits import Visits

STATES, ACTIONS = 3, 2
HORIZONS = (1, 2, 3, 4, 6, 8)
TEMPERATURES = (0.1, 0.3, 1.0, 3.0, 10.0)
RANDOMNESS = (0.0, 0.1, 0.3, 1.0)
AGREEMENTS = (0.0, 0.5, 0.9, 0.99)  # for the default horizon only
USUAL_HORIZON = 6
USUAL = Condition(temperature=1.0, randomness=0.3)
ROUNDING = 1e-12  # a smaller estimate, relative to grad J, counts as zero
STEPS = {"one step": 1, "two steps": 2, "four steps": 4}
T1_ALONE, OWN_RETURN = "T1 alone", "own return"


def measure(seeds: Sequence[int]) -> pd.DataFrame:
    """Measures all estimates: a row per seed, setting and estimate.

    `error`: norm of the difference to grad J, divided by the norm of grad J. `cosine`: cosine of
    the angle between both.
    """
    conditions = [Condition(*both) for both in product(TEMPERATURES, RANDOMNESS)]
    tables = []
    for horizon, agreement in _settings():
        decisions = draw(seeds, STATES, ACTIONS, horizon, agreement, conditions)
        truth, estimates = gradients(decisions, Visits.of(STATES, ACTIONS, horizon))
        index = pd.MultiIndex.from_product([seeds, conditions], names=["seed", "condition"])
        frame = index.to_frame(index=False)
        frame[["temperature", "randomness"]] = frame.pop("condition").tolist()
        frame.insert(1, "horizon", horizon)
        frame.insert(2, "agreement", agreement)
        for name, estimate in estimates.items():
            error, cosine = compare(estimate, truth)
            tables.append(
                frame.assign(
                    estimate=name, error=error.flatten().numpy(), cosine=cosine.flatten().numpy()
                )
            )
    return pd.concat(tables, ignore_index=True)


def _settings() -> Iterator[tuple[int, float]]:
    for horizon in HORIZONS:
        for agreement in AGREEMENTS if horizon == USUAL_HORIZON else AGREEMENTS[:1]:
            yield horizon, agreement


def compare(estimate: Tensor, truth: Tensor) -> tuple[Tensor, Tensor]:
    """Relative error and cosine of gradients [..., D], [...] each; 1 and 0 for a zero estimate."""
    size = truth.norm(dim=-1)
    cosine = cosine_similarity(estimate, truth, dim=-1, eps=0)
    return (
        (estimate - truth).norm(dim=-1) / size,
        cosine.where(estimate.norm(dim=-1) > ROUNDING * size, 0),
    )


def gradients(decisions: Decisions, visits: Visits) -> tuple[Tensor, dict[str, Tensor]]:
    """Gradient of J and its estimates, [S, C, D] each."""
    policy = decisions.policy()
    reached = visits.forward(policy, decisions.transitions)
    t1, value = likelihoods(decisions, visits, reached[-1].sum(-1))
    credit = visits.credit(policy, decisions.transitions, reached, 2 * value)

    def with_t2(scores: Tensor) -> Tensor:
        return t1 + torch.einsum("schza,schzad->scd", credit, scores)

    def cut(steps: int) -> Tensor:
        return with_t2(decisions.scores(policy, decisions.q_gradients(policy, steps)))

    exact = decisions.q_gradients(policy, decisions.horizon)
    return with_t2(decisions.scores(policy, exact)), {
        T1_ALONE: t1,
        **{name: cut(steps) for name, steps in STEPS.items()},
        OWN_RETURN: with_t2(own_return_scores(decisions, policy, exact)),
    }


def own_return_scores(decisions: Decisions, policy: Tensor, q_gradient: Tensor) -> Tensor:
    """Scores per step whose sum is the score with the segment's own return, [.., H, Z, A, D].

    sum_t (sum_{k >= t} grad r_k - E_{a'} grad Q_t(s_t, a')): the reward of step k is part of the
    returns from steps 0 to k, so it counts k + 1 times.
    """
    states, actions, size = q_gradient.shape[-3:]
    unit = torch.eye(size, dtype=policy.dtype).view(states, actions, -1)
    times = torch.arange(1.0, 1 + decisions.horizon, dtype=policy.dtype).view(-1, 1, 1, 1)
    baseline = expected(policy, q_gradient).unsqueeze(-2)
    return (times * unit - baseline) / decisions.temperature.view(-1, 1, 1, 1, 1)


def likelihoods(decisions: Decisions, visits: Visits, probability: Tensor) -> tuple[Tensor, Tensor]:
    """T1, [S, C, D], and E[ log P | counts of one side ], [S, C, V].

    Args:
        decisions: S problems under C conditions.
        visits: Visit counts of their trajectories.
        probability: Probability of the counts, [S, C, V].
    """
    t1, value = [], []
    for reward, truth, p in zip(decisions.reward, decisions.truth, probability, strict=True):
        returns, true_returns = (visits.counts @ r.flatten() for r in (reward, truth))
        margin = returns[:, None] - returns
        preference = torch.sigmoid(true_returns[:, None] - true_returns)
        value.append(p @ log_likelihood(margin, preference))  # symmetric in the pair
        # grad log P = slope (counts_1 - counts_2) is antisymmetric: both sides contribute equally.
        slope = preference - torch.sigmoid(margin)
        t1.append(-2 * (p * (p @ slope)) @ visits.counts)
    return torch.stack(t1), torch.stack(value)
