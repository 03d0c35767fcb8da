"""Comparison of PEBBLE with agents whose coefficients are zero."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from helpers.runs import MakeRun, members_of, rows, trained
from helpers.tiny import CPU, tiny_task
from mujoco_sail.recipes.task import Task
from mujoco_sail.training.run import Run


def assert_is_pebble(
    make_run: MakeRun,
    arm: str,
    neutral: dict[str, Any],
    task: Task | None = None,
    files: Sequence[str] = ("evaluations.csv", "feedback.csv"),
) -> tuple[Run, Run]:
    """Checks that both agents have bit-identical parameters and files after training."""
    one = make_run([(arm, 3)], task, settings={arm: neutral})
    other = make_run([("pebble", 3)], task)
    for a, b in zip(trained(one)[arm, 3], trained(other)["pebble", 3], strict=True):
        assert torch.equal(a, b)
    for name in files:
        assert rows(one, 0, name) == rows(other, 0, name)
    return one, other


def assert_neutral_member_is_pebble(
    make_run: MakeRun,
    arm: str,
    neutral: dict[str, Any],
    active: dict[str, Any],
    results: Path,
) -> None:
    """Checks that in a stack of two only the neutral member equals PEBBLE bit for bit.

    The active one equals itself alone.
    """
    members = members_of([(arm, 3)], {arm: neutral}) + members_of([(arm, 4)], {arm: active})
    ours = trained(Run(tiny_task(), members, CPU, results, lambda _: None))
    theirs = trained(make_run([("pebble", 3), ("pebble", 4)]))
    pairs = [zip(ours[arm, seed], theirs["pebble", seed], strict=True) for seed in (3, 4)]
    same = [all(torch.equal(a, b) for a, b in both) for both in pairs]
    assert same == [True, False]
    alone = trained(Run(tiny_task(), members[1:], CPU, results / "alone", lambda _: None))
    both = zip(ours[arm, 4], alone[arm, 4], strict=True)
    assert all(torch.equal(a, b) for a, b in both)
