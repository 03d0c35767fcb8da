"""Capturing, flattening and restoring of state."""

from __future__ import annotations

import pytest
import torch

from mujoco_sail.core.state import capture, flatten, restore, unflatten


def test_unflatten_inverts_flatten() -> None:
    tree = {"a": {"b": torch.ones(2), "c": 3}, "d": None}
    tensors, plain = flatten(tree)
    assert list(tensors) == ["a.b"]
    assert plain == {"a.c": 3, "d": None}
    again = unflatten({**tensors, **plain})
    assert again["a"]["c"] == 3
    assert torch.equal(again["a"]["b"], torch.ones(2))


def test_the_error_names_a_value_that_a_checkpoint_cannot_hold() -> None:
    with pytest.raises(TypeError, match=r"Calm\.noise is a Generator"):
        capture(torch.Generator(), "Calm.noise")


def test_a_tensor_replaces_none_and_none_a_tensor() -> None:
    assert restore(torch.zeros(2), None) is None
    assert restore(None, torch.ones(2)).tolist() == [1, 1]


def test_a_tensor_is_restored_in_place_and_its_views_with_it() -> None:
    parameter = torch.zeros(2, 3, requires_grad=True)
    view = parameter.detach()[0]
    assert restore(parameter, torch.ones(2, 3)) is parameter
    assert view.tolist() == [1, 1, 1]
