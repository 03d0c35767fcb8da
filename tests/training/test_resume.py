"""Resumed runs write the same files as uninterrupted ones."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.command_line import run
from helpers.envpool import needs_envpool
from helpers.resuming import results_after_stops
from helpers.runs import MakeRun, flip, members_of, results_of, stop_after
from helpers.tiny import CPU, TINY, tiny_task

from mujoco_sail.agents.base import Member
from mujoco_sail.agents.sac import SAC
from mujoco_sail.training import pool
from mujoco_sail.training.messages import Stopped
from mujoco_sail.training.run import Run
from mujoco_sail.training.worker import resume_points

MEMBERS = [("pebble", 0), ("sail_revkl", 1)]


def whole(engine: str, results: Path) -> list[bytes]:
    run = Run(tiny_task(engine=engine), members(), CPU, results, lambda _: None)
    run.execute()
    return results_of(run)


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    return whole("eager", tmp_path_factory.mktemp("whole"))


@pytest.fixture(scope="module")
def references(
    reference: list[bytes], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, list[bytes]]:
    """Files of uninterrupted runs, by engine."""
    compiled = whole("compiled", tmp_path_factory.mktemp("whole"))
    assert compiled != reference
    return {"eager": reference, "compiled": compiled}


def members() -> list[Member]:
    return members_of(MEMBERS)


@pytest.mark.parametrize("engine", ["eager", "compiled"])
@pytest.mark.parametrize(
    "steps", [(1, 60, 80, 89, 95, 119, 149), (59, 79, 81, 90, 110, 120)], ids=str
)
def test_a_run_stopped_after_any_step_writes_identical_files(
    tmp_path: Path, references: dict[str, list[bytes]], steps: tuple[int, ...], engine: str
) -> None:
    """Before, at and after the first update, a session, a reference refresh and the last step."""
    task = tiny_task(engine=engine)
    assert results_after_stops(task, MEMBERS, {}, steps, tmp_path) == references[engine]


def test_members_resumed_alone_write_the_same_files_as_in_the_stack(
    tmp_path: Path, reference: list[bytes]
) -> None:
    run = Run(tiny_task(), members(), CPU, tmp_path, lambda _: None)
    stop_after(run, 100)
    with pytest.raises(Stopped):
        run.execute()
    found = []
    for member in members():
        ((stack, start),) = resume_points(tiny_task(), [member], CPU, tmp_path, lambda _: None)
        alone = Run(tiny_task(), stack, CPU, tmp_path, lambda _: None, start)
        alone.execute()
        found += results_of(alone)
    assert found == reference


def test_the_newest_common_step_is_used_and_damage_is_reported(
    tmp_path: Path, reference: list[bytes]
) -> None:
    for step in (70, 100, 130):
        ((stack, start),) = resume_points(tiny_task(), members(), CPU, tmp_path, lambda _: None)
        run = Run(tiny_task(), stack, CPU, tmp_path, lambda _: None, start)
        stop_after(run, step)
        with pytest.raises(Stopped):
            run.execute()
    newest = run.files[1].folder / "checkpoints" / "step_130.safetensors"
    data = newest.read_bytes()
    newest.write_bytes(flip(data, random.Random(0).randrange(8 * len(data))))
    notes: list[Any] = []
    ((stack, start),) = resume_points(tiny_task(), members(), CPU, tmp_path, notes.append)
    assert str(newest) in notes[0].text
    assert start == 100
    again = Run(tiny_task(), stack, CPU, tmp_path, lambda _: None, start)
    again.execute()
    assert results_of(again) == reference


def test_an_agent_of_another_library_starts_from_step_0(tmp_path: Path, make_run: MakeRun) -> None:
    whole = make_run([("sb3_sac", 0)])
    whole.execute()
    one = members_of([("sb3_sac", 0)])
    run = Run(tiny_task(), one, CPU, tmp_path, lambda _: None)
    stop_after(run, 100)
    with pytest.raises(Stopped):
        run.execute()
    ((stack, start),) = resume_points(tiny_task(), one, CPU, tmp_path, lambda _: None)
    assert start == 0
    again = Run(tiny_task(), stack, CPU, tmp_path, lambda _: None, start)
    again.execute()
    assert results_of(again) == results_of(whole)


@needs_envpool
def test_a_resumed_envpool_run_writes_the_same_files(tmp_path: Path) -> None:
    task = tiny_task(backend="envpool")
    members = members_of([("pebble", 3), ("sail", 3)])
    whole = Run(task, members, CPU, tmp_path / "whole", lambda _: None)
    whole.execute()
    stopped = Run(task, members, CPU, tmp_path, lambda _: None)
    stopped.stopping = lambda: "envs" in vars(stopped) and stopped.envs.episodes[0] == 2
    with pytest.raises(Stopped):
        stopped.execute()
    ((stack, start),) = resume_points(task, members, CPU, tmp_path, lambda _: None)
    again = Run(task, stack, CPU, tmp_path, lambda _: None, start)
    assert again.step == 2 * TINY["episode_steps"]
    again.execute()
    assert results_of(again) == results_of(whole)


def test_a_checkpoint_of_another_run_is_refused_before_files_are_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    task = tiny_task()
    (member,) = members_of([("pebble", 0)])
    stopped = Run(task, [member], CPU, tmp_path / "there", lambda _: None)
    stop_after(stopped, 100)
    with pytest.raises(Stopped):
        stopped.execute()
    here = tmp_path / "here" / "half_cheetah" / "pebble" / "seed_0"
    here.mkdir(parents=True)
    (stopped.files[0].folder / "checkpoints").rename(here / "checkpoints")
    assert run(tmp_path / "here", "half_cheetah", "pebble", "1", "--set", "env.batch_size=17") == 2
    error = capsys.readouterr().err
    assert "env.batch_size is 16 there and 17 here" in error
    assert [path.name for path in here.iterdir()] == ["checkpoints"]


def test_an_attribute_that_is_none_at_the_start_is_resumed_as_a_tensor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin = SAC.__init__

    def begin_without(agent: SAC, runner: Any) -> None:
        begin(agent, runner)
        agent.best = None  # type: ignore[attr-defined]

    monkeypatch.setattr(SAC, "__init__", begin_without)
    agents: list[Any] = []

    def trained_from(step: int) -> Run:
        run = Run(tiny_task(), members_of([("sac", 0), ("sac", 1)]), CPU, tmp_path, print, step)
        after_step = run.after_step

        def noticing(now: int, agent: Any) -> None:
            if now == 90:
                agent.best = torch.tensor([7.0, 8.0])
            if now == 110:
                agents.append(agent)
            after_step(now, agent)

        run.after_step = noticing  # type: ignore[method-assign]
        return run

    first = trained_from(0)
    stop_after(first, 100)
    with pytest.raises(Stopped):
        first.execute()
    trained_from(100).execute()
    assert agents[0].best.tolist() == [7.0, 8.0]


def test_a_failed_run_starts_from_step_0_unless_resume_is_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = tiny_task()
    (member,) = members_of([("pebble", 0)])
    for resume, expected in (
        (True, "half_cheetah: from step 100 on: pebble seed 0"),
        (False, "half_cheetah: 1 failed run starts again from step 0 (from checkpoints with"),
    ):
        results = tmp_path / str(resume)
        stopped = Run(task, [member], CPU, results, lambda _: None)
        stop_after(stopped, 100)
        with pytest.raises(Stopped):
            stopped.execute()
        stopped.files[0].write_status("failed", 1.0, "for the test")
        notes: list[str] = []
        failures = pool.execute(task, [member], CPU, results, lambda _: None, notes.append, resume)
        assert failures == []
        (note,) = notes
        assert note.startswith(expected)
