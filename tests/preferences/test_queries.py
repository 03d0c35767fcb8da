"""Queries are ranked as their schemes say."""

from __future__ import annotations

import torch

from mujoco_sail.preferences.queries import ranking


def test_each_query_scheme_ranks_as_its_formula_says() -> None:
    """Ensembles of two: pair 0 agrees at one half, pair 1 quarrels, pair 2 is sure."""
    probability = torch.tensor([[[0.5, 0.9, 0.99], [0.5, 0.2, 0.98]]])
    assert ranking("disagreement", probability).tolist() == [[1, 2, 0]]
    assert ranking("entropy", probability).tolist() == [[0, 1, 2]]
    assert ranking("uniform", probability).tolist() == [[0, 1, 2]]
