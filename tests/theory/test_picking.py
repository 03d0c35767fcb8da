from __future__ import annotations

from dataclasses import dataclass

import pandas as pd
import pytest
import torch
from helpers.trajectories import Trajectories
from torch import Tensor

from mujoco_sail.core.objectives import log_likelihood
from mujoco_sail.theory import picking, truncation
from mujoco_sail.theory.decisions import Condition, Decisions, draw
from mujoco_sail.theory.picking import HALF, PICKED, Pairs, ensemble, pairs_of, pick, sessions
from mujoco_sail.theory.summary import session_error
from mujoco_sail.theory.truncation import T1_ALONE
from mujoco_sail.theory.visits import Visits

HORIZON = 2  # 36 trajectories, 1296 pairs
RULES = ("uniform", "disagreement", "entropy")


def problem() -> Decisions:
    return draw([1], 3, 2, HORIZON, 0.5, [Condition(1.0, 0.3)])


def pairs() -> Pairs:
    (one,) = pairs_of(problem(), Visits.of(3, 2, HORIZON))
    return one


@dataclass(frozen=True)
class Labels:
    """All pairs of trajectories with both labels: probability [X], T1 and T2 [X, D]."""

    chance: Tensor
    t1: Tensor
    t2: Tensor

    def estimate(self, keep: Tensor, times: float) -> tuple[Tensor, Tensor]:
        """Mean [D] and total variance of a label's T1 + `times` T2 among the labels kept."""
        weight = self.chance * keep
        weight = weight / weight.sum()
        value = self.t1 + times * self.t2
        mean = weight @ value
        return mean, weight @ ((value - mean) ** 2).sum(1)


def every_label(rewards: Tensor, level: float) -> tuple[Labels, Tensor]:
    """All labels, and a mask of those above a level of disagreement; b is the mean over these."""
    decisions = problem()
    paths = Trajectories.of(decisions)
    policy = decisions.policy()
    gradient = decisions.q_gradients(policy, HORIZON)
    score = decisions.scores(policy, gradient)[0, 0]
    scores = score[torch.arange(HORIZON), paths.states, paths.actions].sum(1)
    visited = torch.nn.functional.one_hot(paths.states * 2 + paths.actions, 6).double().sum(1)
    p = paths.probability(policy[0, 0])
    difference = visited[:, None] - visited
    margin = difference @ decisions.reward[0].flatten()
    disagreement = torch.sigmoid(difference @ rewards.T).std(-1, correction=0)
    keep = (disagreement > level).double()
    chances, t1, log_ps = [], [], []
    for label, its_chance in ((1.0, paths.preference()), (0.0, 1 - paths.preference())):
        chances.append(p[:, None] * p * its_chance)
        t1.append((label - torch.sigmoid(margin))[..., None] * difference)
        log_ps.append(log_likelihood(margin, torch.full_like(margin, label)))
    chance, log_p = torch.stack(chances), torch.stack(log_ps)
    b = (chance * keep * log_p).sum() / (chance * keep).sum()
    t2 = (log_p - b)[..., None] * (scores[:, None] + scores)
    flat = Labels(
        chance.flatten(),
        torch.stack(t1).flatten(0, 2),
        t2.flatten(0, 2),
    )
    return flat, keep.expand_as(chance).flatten()


@pytest.mark.parametrize("times", [0.0, 1.0, 2.0])
@pytest.mark.parametrize("level", [-1.0, 0.05, 0.1])
def test_mean_and_variance_equal_those_over_all_enumerated_labels(
    level: float, times: float
) -> None:
    one = pairs()
    rewards = ensemble(0, problem().reward[0])
    labels, keep = every_label(rewards, level)
    value = torch.sigmoid(rewards @ one.difference.mT).std(0, correction=0)
    weight = one.probability * (value > level)
    weight = weight / weight.sum()
    mean, variance = labels.estimate(keep, times)
    t1, t2 = one.terms(weight)
    torch.testing.assert_close(t1 + times * t2, mean, rtol=1e-10, atol=1e-13)
    torch.testing.assert_close(one.variance(weight, times), variance, rtol=1e-10, atol=1e-13)


def test_all_pairs_give_the_gradient_of_j() -> None:
    truth, _ = truncation.gradients(problem(), Visits.of(3, 2, HORIZON))
    one = pairs()
    assert one.probability.sum() == pytest.approx(1)
    torch.testing.assert_close(sum(one.terms(one.probability)), truth[0, 0])


def test_the_share_of_highest_value_is_selected_and_ties_are_split_equally() -> None:
    value = torch.tensor([0.1, 0.5, 0.3, 0.3, 0.3 + 1e-15], dtype=torch.float64)
    probability = torch.tensor([0.3, 0.1, 0.2, 0.3, 0.1], dtype=torch.float64)
    for share, kept in (
        (0.1, [0, 0.1, 0, 0, 0]),
        (0.4, [0, 0.1, 0.1, 0.15, 0.05]),
        (0.7, [0, 0.1, 0.2, 0.3, 0.1]),
        (1.0, [0.3, 0.1, 0.2, 0.3, 0.1]),
    ):
        picked = pick(value, probability, share)
        torch.testing.assert_close(picked, torch.tensor(kept, dtype=torch.float64) / share)


def test_the_mean_of_the_ensemble_is_the_reward() -> None:
    reward = problem().reward[0]
    rewards = ensemble(3, reward)
    torch.testing.assert_close(rewards.mean(0), reward.flatten())
    assert rewards.std(0).min() > 0.01
    assert not torch.equal(rewards, ensemble(4, reward))


@pytest.fixture(scope="module")
def rows() -> pd.DataFrame:
    torch.set_num_threads(1)  # as for each test, but this fixture comes first
    return pd.DataFrame(sessions(pairs(), ensemble(0, problem().reward[0])))


@pytest.mark.parametrize("rule", RULES)
def test_selecting_all_pairs_gives_the_gradient(rows: pd.DataFrame, rule: str) -> None:
    whole = rows[(rows["rule"] == rule) & (rows["share"] == 1) & (rows["session"] != T1_ALONE)]
    assert (whole["error"] < 1e-12).all()
    assert whole["cosine"].to_numpy() == pytest.approx(1)


def test_uniform_selection_is_unbiased_and_the_other_rules_are_not(rows: pd.DataFrame) -> None:
    few = rows[(rows["share"] == 0.1) & (rows["session"] == PICKED)].set_index("rule")
    assert few["error"]["uniform"] < 1e-12
    assert few["t2_error"]["uniform"] < 1e-12
    for rule in ("disagreement", "entropy"):
        assert few["error"][rule] > 0.1
        assert few["t2_error"][rule] > 0.1


def test_half_uniform_has_an_unbiased_t2_and_half_the_bias_of_t1(rows: pd.DataFrame) -> None:
    sets = {name: part.reset_index(drop=True) for name, part in rows.groupby("session")}
    assert (sets[HALF]["t2_error"] < 1e-12).all()
    assert sets[HALF]["t1_error"].to_numpy() == pytest.approx(sets[PICKED]["t1_error"] / 2)
    assert (sets[T1_ALONE]["t2_error"] == 1).all()
    assert (sets[T1_ALONE]["t1_error"] == sets[PICKED]["t1_error"]).all()


def test_half_as_many_pairs_for_t2_give_more_noise(rows: pd.DataFrame) -> None:
    """If all pairs are selected: var(T1 + 2 T2) / 2 + var(T1) / 2 exceeds var(T1 + T2)."""
    noise = rows[rows["rule"] == "uniform"].set_index(["session", "share"])["noise"]
    one = pairs()
    first, both = (one.variance(one.probability, times=t) for t in (0, 2))
    size = sum(one.terms(one.probability)).norm()  # type: ignore[union-attr]
    assert noise[HALF][1.0] == pytest.approx(float(((first + both) / 2).sqrt() / size))
    assert noise[HALF][1.0] > noise[PICKED][1.0]


def test_the_error_of_a_session_combines_bias_and_noise() -> None:
    table = pd.DataFrame({"error": [0.3, 0.0], "noise": [4.0, 1.0]})
    assert session_error(table, 100).tolist() == pytest.approx([0.5, 0.1])


def test_the_table_is_tidy_and_the_same_twice() -> None:
    table = picking.measure([0, 1])
    assert not table.duplicated(["seed", "agreement", "rule", "share", "session"]).any()
    assert len(table) == 2 * 2 * 3 * 4 * 3
    assert table.notna().all(axis=None)
    assert picking.measure([0, 1]).equals(table)
    alone = picking.measure([1])
    among = table[table["seed"] == 1].reset_index(drop=True)
    pd.testing.assert_frame_equal(alone, among, rtol=1e-9, atol=1e-9)
