"""Learning curves where a seed has no value at some points."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from helpers.results import MakeFolder

from mujoco_sail.analysis import stats
from mujoco_sail.analysis.figures import drawing
from mujoco_sail.analysis.figures.bands import Arm, arm_of
from mujoco_sail.results.pooling import collect

NAN = np.nan


def accuracies(*values: object) -> dict[str, tuple[object, ...]]:
    return {"step": (100, 200, 300), "held_out_accuracy": values, "labels": (0, 2, 4)}


def test_a_point_has_the_seeds_with_a_value_there(results: Path, make: MakeFolder) -> None:
    for seed, values in enumerate([("", 0.5, 0.5), ("", "", 0.75), (0.5, 1.0, 1.0)]):
        make("hopper", "sail", seed, training=accuracies(*values))
    arm = arm_of(collect(results), "held_out_accuracy", "step")
    assert arm is not None
    assert arm.x.tolist() == [200, 300]  # one seed alone has a value at 100
    np.testing.assert_array_equal(arm.values, [[0.5, 0.5], [NAN, 0.75], [1, 1]])
    middle, low, high = arm.band("mean")
    np.testing.assert_allclose(middle, [0.75, 0.75])
    np.testing.assert_allclose(
        [low, high], np.transpose([_interval(0.5, 1), _interval(0.5, 0.75, 1)])
    )
    middle, low, high = arm.band("median")
    np.testing.assert_allclose([low, middle, high], [[0.625, 0.625], [0.75, 0.75], [0.875, 0.875]])


def _interval(*values: float) -> list[float]:
    return [float(end) for end in stats.mean_interval([np.array(values)])]


def test_the_only_seed_is_drawn_where_it_has_a_value() -> None:
    arm = Arm(np.array([2.0]), np.array([[0.5]]))
    assert arm.band("mean")[0].tolist() == [0.5]


def test_an_agent_that_cannot_be_drawn_is_named(results: Path, make: MakeFolder) -> None:
    for seed in range(2):
        make("hopper", "pebble", seed, training=accuracies("", 0.5, 0.75))
    make("hopper", "sail", 0, training=accuracies("", 0.5, ""))
    make("hopper", "sail", 1, training=accuracies("", "", 0.75))
    make("hopper", "sac", 0, answers=())
    ((path, recipe),) = drawing.load(["held_out_accuracy"])
    (axes,) = drawing.draw(replace(recipe), collect(results), results, path.name).axes
    (text,) = axes.texts
    assert text.get_text() == "sail: no two seeds have a value at the same place"
    assert len(axes.lines) == 1
