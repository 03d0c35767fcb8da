"""Query schemes."""

from __future__ import annotations

import pytest
import torch
from helpers.runs import MakeRun, pebble
from torch import Tensor

from mujoco_sail.core.streams import Streams
from mujoco_sail.preferences import sessions
from mujoco_sail.preferences.queries import (
    SCHEMES,
    Candidates,
    Scheme,
    disagreement,
    drawn_by_rank,
    entropy,
    k_center,
    ranking,
)

OBSERVATIONS, ACTIONS, STEPS = 3, 2, 4
COVERING: tuple[Scheme, ...] = ("k_center", "disagreement_k_center", "entropy_k_center")


def candidates(probability: Tensor, labelled: int = 3) -> Candidates:
    """Pairs with these predictions and random inputs."""
    generator = torch.Generator().manual_seed(probability.shape[-1])
    inputs, asked = (
        torch.randn(len(probability), count, 2, STEPS, OBSERVATIONS + ACTIONS, generator=generator)
        for count in (probability.shape[-1], labelled)
    )
    return Candidates(probability, inputs, asked, OBSERVATIONS)


def brute_force(points: list[list[float]], centers: list[list[float]]) -> list[int]:
    """Greedy k-centre with all distances recomputed for every selection."""
    order: list[int] = []
    while len(order) < len(points):
        around = centers + [points[i] for i in order]
        left = [i for i in range(len(points)) if i not in order]
        order.append(
            max(
                left,
                key=lambda i: min(
                    (sum((a - b) ** 2 for a, b in zip(points[i], c, strict=True)) for c in around),
                    default=0.0,
                ),
            )
        )
    return order


def test_each_query_scheme_ranks_by_its_formula() -> None:
    """Two networks: on pair 0 both say one half, on pair 1 they disagree, on pair 2 both agree."""
    of = candidates(torch.tensor([[[0.5, 0.9, 0.99], [0.5, 0.2, 0.98]]]))
    assert ranking("disagreement", of).tolist() == [[1, 2, 0]]
    assert ranking("entropy", of).tolist() == [[0, 1, 2]]
    assert ranking("uniform", of).tolist() == [[0, 1, 2]]


def test_greedy_k_centre_equals_brute_force_on_200_random_sets() -> None:
    generator = torch.Generator().manual_seed(0)
    with_centers = set()
    for _ in range(200):
        count, centers, size = (
            int(torch.randint(low, 9, (), generator=generator)) for low in (1, 0, 1)
        )
        # Integers: distances are exact, with many ties.
        points = torch.randint(-4, 5, (2, count, size), generator=generator).float()
        around = torch.randint(-4, 5, (2, centers, size), generator=generator).float()
        expected = [
            brute_force(*sets) for sets in zip(points.tolist(), around.tolist(), strict=True)
        ]
        assert k_center(points, around).tolist() == expected
        with_centers.add(centers > 0)
    assert with_centers == {True, False}


@pytest.mark.parametrize(
    ("scheme", "information"),
    [("disagreement_k_center", disagreement), ("entropy_k_center", entropy)],
)
def test_a_hybrid_scheme_orders_the_more_informative_half_by_k_centre(
    scheme: Scheme, information
) -> None:
    of = candidates(torch.rand(2, 3, 11, generator=torch.Generator().manual_seed(1)))
    by_value = information(of.probability).argsort(-1, descending=True)
    for member, order in enumerate(ranking(scheme, of).tolist()):
        best = by_value[member, :5]
        points = of.inputs[member, best, ..., :OBSERVATIONS].flatten(1).tolist()
        around = of.labelled[member, ..., :OBSERVATIONS].flatten(1).tolist()
        assert order[:5] == [int(best[i]) for i in brute_force(points, around)]
        assert order[5:] == by_value[member, 5:].tolist()


def test_k_centre_selects_first_the_pair_furthest_from_labelled_pairs() -> None:
    of = candidates(torch.rand(1, 3, 4))
    of.inputs.zero_()
    of.labelled.zero_()
    of.inputs[0, 2, 1, :, 0] = 5.0  # one observation of pair 2
    of.inputs[0, 1, 0, :, OBSERVATIONS:] = 99.0  # actions do not count in distances
    assert ranking("k_center", of).tolist() == [[2, 0, 1, 3]]
    of.labelled[0, 0] = of.inputs[0, 2]
    of.inputs[0, 3, 0, :, 1] = -1.0
    assert ranking("k_center", of).tolist()[0][0] == 3


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_ranking_has_every_candidate_once_and_members_are_independent(scheme: Scheme) -> None:
    of = candidates(torch.rand(5, 3, 33, generator=torch.Generator().manual_seed(2)))
    together = ranking(scheme, of)
    assert together.sort(-1).values.tolist() == [list(range(33))] * 5
    for m in range(5):
        one = slice(m, m + 1)
        alone = Candidates(of.probability[one], of.inputs[one], of.labelled[one], OBSERVATIONS)
        assert torch.equal(ranking(scheme, alone)[0], together[m])


@pytest.mark.parametrize("scheme", COVERING)
def test_centres_are_all_labelled_pairs_and_skipped_queries_are_replaced(
    make_run: MakeRun, monkeypatch: pytest.MonkeyPatch, scheme: Scheme
) -> None:
    asked: list[tuple[str, int]] = []

    def spy(used: Scheme, of: Candidates) -> Tensor:
        asked.append((used, of.labelled.shape[1]))
        assert of.observation_size == 17  # half_cheetah's
        return ranking(used, of)

    monkeypatch.setattr(sessions, "ranking", spy)
    recipe = {"teacher": "skip", "reward_range": [-1.0, 0.2], "oracle.skip": 1.01}
    agent = pebble(make_run, settings={"pebble": {"queries": scheme}}, **recipe)
    assert asked[0] == ("uniform", 0)
    assert asked[-1] == (scheme, 4)
    queries = agent.runner.feedback.queries[0]
    assert sum(query.label is None for query in queries) > 0
    assert sum(query.label is not None for query in queries) == 8


# --- draws by rank ---


def test_draws_have_probabilities_of_rank_to_the_power_minus_tau() -> None:
    """Frequencies over 6000 members: of the first draw, and of the second given the first."""
    score = torch.tensor([0.3, -1.0, 2.0, 0.1])  # ranks 2, 4, 1, 3
    rank = torch.tensor([2.0, 4.0, 1.0, 3.0])
    streams = Streams(range(6000), "test", torch.device("cpu"))
    for tau in (1.0, 2.0):
        order = drawn_by_rank(score.expand(6000, 4), torch.full((6000,), tau), 1, streams)
        weight = rank**-tau
        first = order[:, 0].bincount(minlength=4) / 6000
        torch.testing.assert_close(first, weight / weight.sum(), rtol=0, atol=0.025)
        rest = order[order[:, 0] == 2][:, 1]
        weight[2] = 0
        second = rest.bincount(minlength=4) / len(rest)
        torch.testing.assert_close(second, weight / weight.sum(), rtol=0, atol=0.03)


def test_large_exponents_draw_by_rank_alone() -> None:
    """rank^80 is infinite in float32 from rank 4 on."""
    score = torch.rand(50, 20, generator=torch.Generator().manual_seed(0))
    streams = Streams(range(50), "t", torch.device("cpu"))
    order = drawn_by_rank(score, torch.full((50,), 80.0), 10, streams)
    best, drawn = score.topk(10).indices.sort().values, order[:, :10].sort().values
    assert (best == drawn).float().mean() > 0.9  # neighbouring ranks can change places


def test_draws_within_a_set_are_shuffled_and_sets_are_not() -> None:
    """With a large exponent, draws are by rank: sets of 2 are {0, 1}, {2, 3} and {4, 5}."""
    score = -torch.arange(6.0).expand(200, 6)
    exponent = torch.full((200,), 80.0)
    exponent[0] = 0
    order = drawn_by_rank(score, exponent, 2, Streams(range(200), "t", torch.device("cpu")))
    assert order[0].tolist() == [0, 1, 2, 3, 4, 5]
    assert torch.equal(order.view(200, 3, 2) // 2, torch.arange(3).view(3, 1).expand(200, 3, 2))
    assert 60 < int((order[:, 0] == 0).sum()) < 140
