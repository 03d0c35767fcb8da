"""State is taken apart, named where it cannot be held, and put back in its place."""

from __future__ import annotations

import pytest
import torch

from mujoco_sail.core.state import capture, flatten, restore, unflatten


def test_a_tree_survives_being_flattened() -> None:
    tree = {"a": {"b": torch.ones(2), "c": 3}, "d": None}
    tensors, plain = flatten(tree)
    assert list(tensors) == ["a.b"]
    assert plain == {"a.c": 3, "d": None}
    again = unflatten({**tensors, **plain})
    assert again["a"]["c"] == 3
    assert torch.equal(again["a"]["b"], torch.ones(2))


def test_what_cannot_be_held_is_named() -> None:
    with pytest.raises(TypeError, match=r"Calm\.noise is a Generator"):
        capture(torch.Generator(), "Calm.noise")


def test_a_tensor_is_restored_in_its_place_so_that_views_of_it_follow() -> None:
    parameter = torch.zeros(2, 3, requires_grad=True)
    view = parameter.detach()[0]
    assert restore(parameter, torch.ones(2, 3)) is parameter
    assert view.tolist() == [1, 1, 1]
