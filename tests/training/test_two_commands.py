"""Concurrent commands in one results folder, stacks in one worker, and incomplete results."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.runs import members_of
from helpers.tiny import CPU, tiny_task

from mujoco_sail.analysis.effect_size import effect_interval
from mujoco_sail.cli import main
from mujoco_sail.results.checkpoint import Checkpoints, MemberState
from mujoco_sail.results.write import RunWriter, lock_of, run_folder
from mujoco_sail.system.errors import UserError
from mujoco_sail.system.lock import Lock
from mujoco_sail.training import worker
from mujoco_sail.training.messages import Failure
from mujoco_sail.training.pool import execute
from mujoco_sail.training.run import Run
from mujoco_sail.training.selection import unfinished_members
from mujoco_sail.training.work_unit import WorkUnit


def test_a_run_completed_by_another_command_in_the_meantime_is_unchanged(
    tmp_path: Path,
) -> None:
    task, (member,) = tiny_task(), members_of([("sac", 0)])
    waiting = unfinished_members(task, [member.spec], [0], tmp_path)
    Run(task, [member], CPU, tmp_path, lambda _: None).execute()
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.*") if path.is_file()}
    assert execute(task, waiting, CPU, tmp_path, lambda _: None) == []
    assert {path: path.read_bytes() for path in before} == before


def test_members_that_cannot_start_do_not_prevent_the_rest_of_their_stack(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stack, trained, told = members_of([("sac", 0), ("sac", 1)]), [], []
    groups = [(stack[:1], 0), (stack[1:], 100)]
    monkeypatch.setattr(worker, "resume_points", lambda *_: iter(groups))

    def train(task: Any, members: Any, step: int, *_: Any) -> None:
        if step == 0:
            raise RuntimeError("no memory")
        trained.append(members)

    monkeypatch.setattr(worker, "_train", train)
    unit = WorkUnit(tiny_task(), [stack], CPU, tmp_path)
    worker.train_stack(unit, stack, told.append, lambda: False)
    assert trained == [stack[1:]]
    assert [failure.members for failure in told] == [(("sac", 0),)]


def test_a_checkpoint_is_kept_despite_damaged_ones_of_later_steps(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, {})
    for step in (4900, 5000):
        (tmp_path / f"step_{step}.json").write_text("damaged")
    checkpoints.write(MemberState(100, {"a": torch.ones(1)}, {}, {}))
    assert checkpoints.read(100).step == 100


def test_effects_too_large_for_the_library_have_no_interval() -> None:
    generator = np.random.default_rng(0)
    for _ in range(200):
        low, high = effect_interval(generator.normal(700, 5, 2), generator.normal(35, 3, 2))
        assert math.isnan(low) == math.isnan(high)


def test_a_report_of_runs_interrupted_at_their_start_has_no_traceback(tmp_path: Path) -> None:
    (tmp_path / "results/walker_walk/pebble/seed_0").mkdir(parents=True)
    out = tmp_path / "report.html"
    assert main(["report", "--results", str(tmp_path / "results"), "--out", str(out)]) in (0, 2)


def test_a_refused_command_keeps_the_checkpoints_of_failed_runs(tmp_path: Path) -> None:
    task, members = tiny_task(), members_of([("sac", 0), ("sac", 1)])
    first, second = (run_folder(tmp_path, task, "sac", member.seed) for member in members)
    files = RunWriter(first, task, members[0].spec, 0, "cpu")
    files.begin()
    files.checkpoints.write(MemberState(100, {"a": torch.ones(1)}, {}, {}))
    files.write_status("failed", 1.0, "for the test")
    other = Lock(lock_of(second))
    with pytest.raises(UserError, match="seed_1 is in use"):
        execute(task, members, CPU, tmp_path, lambda _: None)
    assert files.checkpoints.steps() == [100]
    other.release()


def test_a_failure_names_the_members_that_are_neither_complete_nor_named_before(
    tmp_path: Path,
) -> None:
    task, members = tiny_task(), members_of([("sac", seed) for seed in range(3)])
    done = RunWriter(run_folder(tmp_path, task, "sac", 0), task, members[0].spec, 0, "cpu")
    done.begin()
    done.write_status("complete", 1.0)
    unit = WorkUnit(task, [members], CPU, tmp_path)
    told = Failure(task.name, (("sac", 1),), "before")
    elsewhere = Failure("another", (("sac", 2),), "too")
    beside = Failure(task.name, (("sac", 7),), "of another unit")
    crashed = Failure(task.name, (("sac", 2),), "crashed")
    assert unit.failed([told, elsewhere], "crashed") == [crashed]
    assert unit.failed([told, Failure(task.name, (("sac", 2),), "too")], "crashed") == []
    assert unit.others([told, elsewhere, beside, crashed]) == [elsewhere, beside]
