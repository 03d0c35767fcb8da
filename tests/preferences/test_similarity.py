"""The teacher that confuses segments that look alike."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from helpers.runs import MakeRun
from helpers.tiny import CPU, tiny_task
from torch import Tensor

from mujoco_sail.core.streams import Streams
from mujoco_sail.preferences.teacher import flip_similar
from mujoco_sail.recipes.load import load_task
from mujoco_sail.results.versions import differ

MANY = 20_000


class Drawn(Streams):
    """Streams that give the same number to all pairs."""

    def __init__(self, number: float) -> None:
        self.number = number

    def uniform(self, *shape: int) -> Tensor:
        return torch.full((1, *shape), self.number)


def pairs_of(gaps: list[float]) -> Tensor:
    """Pairs of one member and one step, of a feature that differs by the gaps, [1, P, 2, 1, 1]."""
    gap = torch.tensor(gaps)
    return torch.stack([gap, torch.zeros_like(gap)], -1)[None, ..., None, None]


def flips(inputs: Tensor, number: float, share: float, valid: Tensor | None = None) -> list[int]:
    """Indices of the flipped labels if the draw of every pair is `number`."""
    ones = torch.ones(inputs.shape[:2])
    seen = torch.ones(inputs.shape[:4]) if valid is None else valid
    said = flip_similar(ones, inputs, seen, share, Drawn(number))
    return (said[0] == 0).nonzero().flatten().tolist()


def test_the_probability_falls_linearly_with_the_rank_of_the_distance() -> None:
    """Gaps 3, -1, 10, 0, 7 have the ranks 2, 1, 4, 0, 3, so 0.2, 0.3, 0, 0.4 and 0.1."""
    inputs = pairs_of([3.0, -1.0, 10.0, 0.0, 7.0])
    chance = {3: 0.4, 1: 0.3, 0: 0.2, 4: 0.1, 2: 0.0}
    for number in (0.0, 0.05, 0.15, 0.25, 0.35, 0.45):
        expected = sorted(pair for pair, p in chance.items() if number < p)
        assert flips(inputs, number, 0.2) == expected


def test_features_count_in_units_of_their_standard_deviation() -> None:
    """Gaps 3 and 40 are 2.31 and 0.94 of the standard deviations 1.30 and 42.4, a third is 0."""
    first = [[3.0, 0.0, 5.0], [0.0, 0.0, 5.0]]
    second = [[0.0, 100.0, 5.0], [0.0, 60.0, 5.0]]
    inputs = torch.tensor([[first, second]])[:, :, :, None]
    assert flips(inputs, 0.5, 0.5) == [1]
    assert flips(inputs * torch.tensor([1e3, 1e-3, 1.0]), 0.5, 0.5) == [1]


def test_features_are_means_over_valid_steps() -> None:
    """The means are 1 and 1, and 2 and 1; with the padding the first would be 5 and 1."""
    inputs = torch.tensor([[[[1.0, 9.0], [2.0, 0.0]], [[1.0, 3.0], [1.0, 1.0]]]])[..., None]
    valid = torch.tensor([[[[1.0, 0.0], [1.0, 1.0]], [[1.0, 1.0], [1.0, 1.0]]]])
    assert flips(inputs, 0.5, 0.5, valid) == [0]
    assert flips(inputs, 0.5, 0.5) == [1]


def test_ties_stay_ties_and_both_labels_flip() -> None:
    labels = torch.tensor([[1.0, 0.5, 0.0, 1.0]])
    inputs = pairs_of([0.0, 0.1, 0.2, 9.0])
    valid = torch.ones(1, 4, 2, 1)
    said = flip_similar(labels, inputs, valid, 0.5, Drawn(0.0))
    assert said.tolist() == [[0.0, 0.5, 1.0, 1.0]]


@pytest.mark.parametrize("pairs", [1, 2, MANY])
def test_the_stated_share_of_all_labels_is_flipped(pairs: int) -> None:
    members = MANY // pairs
    inputs = torch.randn(members, pairs, 2, 3, 4, generator=torch.Generator().manual_seed(0))
    streams = Streams(range(members), "s", CPU)
    ones, valid = torch.ones(members, pairs), torch.ones(members, pairs, 2, 3)
    wrong = 1 - flip_similar(ones, inputs, valid, 0.1, streams).mean().item()
    assert abs(wrong - 0.1) < 4.5 * math.sqrt(0.1 * 0.9 / MANY)


def test_a_members_flips_do_not_depend_on_its_neighbours() -> None:
    inputs = torch.randn(3, 97, 2, 5, 7, generator=torch.Generator().manual_seed(0))
    inputs *= torch.tensor([1.0, 1e4, 1e-4])[:, None, None, None, None]
    ones, valid = torch.ones(3, 97), torch.ones(3, 97, 2, 5)
    together = flip_similar(ones, inputs, valid, 0.3, Streams([4, 5, 6], "s", CPU))
    for m in range(3):
        at = slice(m, m + 1)
        streams = Streams([4 + m], "s", CPU)
        assert torch.equal(
            together[at], flip_similar(ones[at], inputs[at], valid[at], 0.3, streams)
        )


def test_the_teacher_errs_in_a_run_and_composes_with_others(make_run: MakeRun) -> None:
    assert load_task("half_cheetah", "quick", {}, "similarity+skip").oracle.similarity == 0.1
    task = tiny_task(teacher="similarity")
    wrong = []
    for share in (0.0, 0.5):
        run = make_run(
            [("pebble", 0)], replace(task, oracle=replace(task.oracle, similarity=share))
        )
        run.members[0].spec.agent(run).train()
        asked = run.feedback.queries[0]
        wrong.append(sum(q.label != (q.return_1 > q.return_2) for q in asked))
        assert len(asked) == 8
    assert wrong[0] == 0 < wrong[1]


@pytest.mark.parametrize(("share", "differs"), [(0.0, False), (0.1, True)])
def test_a_run_from_before_the_key_differs_only_from_a_teacher_that_has_the_fault(
    share: float, differs: bool
) -> None:
    older, newer = {"env.oracle.mistake": 0.0}, {"env.oracle.similarity": share}
    assert differ("env.oracle.similarity", older, newer) is differs
    assert differ("env.oracle.similarity", newer, older) is differs
