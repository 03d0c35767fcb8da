"""Stopped and resumed runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from helpers.runs import members_of, results_of, stop_after
from helpers.tiny import CPU
from mujoco_sail.recipes.task import Task
from mujoco_sail.training.messages import Stopped
from mujoco_sail.training.options import NO_EXTRAS, Extras
from mujoco_sail.training.run import Run
from mujoco_sail.training.worker import resume_points


def results_after_stops(
    task: Task,
    names: Sequence[tuple[str, int]],
    settings: Mapping[str, dict[str, Any]],
    steps: Sequence[int],
    results: Path,
    extras: Extras = NO_EXTRAS,
) -> list[bytes]:
    """Result files of a stack that was stopped and resumed after each of several steps."""
    stack, start = members_of(names, settings), 0
    for step in steps:
        run = Run(task, stack, CPU, results, lambda _: None, start, extras=extras)
        stop_after(run, step)
        with pytest.raises(Stopped):
            run.execute()
        ((stack, start),) = resume_points(task, stack, CPU, results, lambda _: None)
        assert start == step
    again = Run(task, stack, CPU, results, lambda _: None, start, extras=extras)
    assert again.step == start
    again.execute()
    return results_of(again)
