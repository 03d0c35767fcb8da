"""A checkpoint is whole and of this very run, or it is named and not used."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import CPU, TINY, MakeRun, tiny_task

from mujoco_sail import files
from mujoco_sail.agents import registry
from mujoco_sail.agents.base import Member
from mujoco_sail.cli import main
from mujoco_sail.core.state import capture, flatten, restore, unflatten
from mujoco_sail.recipes.load import load_task
from mujoco_sail.recipes.settings import RecipeError
from mujoco_sail.results.checkpoint import Checkpoints, DamagedError, MemberState
from mujoco_sail.training import benchmark
from mujoco_sail.training.lock import Lock
from mujoco_sail.training.run import Run, Stopped
from mujoco_sail.training.worker import resume_points

FILES = ("evaluations.csv", "training.csv", "feedback.csv")
ABOUT = {"seed": 0, "env": {"steps": 10, "reward_range": (0.0, 1.0)}, "versions": {"torch": "2"}}


def saved(step: int) -> MemberState:
    return MemberState(
        step, {"a": torch.arange(6.0), "b": torch.ones(2)}, {"updates": 3}, {"rows": []}
    )


def two_checkpoints(tmp_path: Path) -> Checkpoints:
    checkpoints = Checkpoints(tmp_path / "checkpoints", ABOUT)
    checkpoints.write(saved(5))
    checkpoints.write(saved(8))
    return checkpoints


def test_a_checkpoint_is_read_as_it_was_written_and_the_newest_two_are_kept(tmp_path: Path) -> None:
    checkpoints = two_checkpoints(tmp_path)
    checkpoints.write(saved(9))
    assert checkpoints.steps() == [9, 8]
    assert len(list(checkpoints.folder.iterdir())) == 4
    found = checkpoints.read(9)
    assert torch.equal(found.tensors["a"], torch.arange(6.0))
    assert (found.step, found.plain, found.own) == (9, {"updates": 3}, {"rows": []})


def flip(data: bytes, bit: int) -> bytes:
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


@pytest.mark.parametrize("part", ["step_8.json", "step_8.safetensors"])
def test_any_bit_that_flips_is_noticed(tmp_path: Path, part: str) -> None:
    checkpoints = two_checkpoints(tmp_path)
    path = checkpoints.folder / part
    data = path.read_bytes()
    for bit in range(8 * len(data)):
        path.write_bytes(flip(data, bit))
        with pytest.raises(DamagedError, match=part):
            checkpoints.read(8)
    path.write_bytes(data)
    assert checkpoints.read(8).step == 8
    assert checkpoints.read(5).step == 5


@pytest.mark.parametrize("part", ["step_8.json", "step_8.safetensors"])
@pytest.mark.parametrize("cut", [0, 1, 7, 100, -1])
def test_a_part_that_was_cut_or_emptied_is_noticed(tmp_path: Path, part: str, cut: int) -> None:
    checkpoints = two_checkpoints(tmp_path)
    path = checkpoints.folder / part
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(DamagedError, match=part):
        checkpoints.read(8)
    path.unlink()
    with pytest.raises(DamagedError, match=part):
        checkpoints.read(8)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        (ABOUT | {"env": ABOUT["env"] | {"steps": 11}}, "env.steps is 10 there and 11 here"),
        (ABOUT | {"versions": {"torch": "3"}}, "versions.torch is '2' there and '3' here"),
        (ABOUT | {"seed": 1}, "seed is 0 there and 1 here"),
    ],
)
def test_a_checkpoint_of_another_run_is_refused_with_the_difference(
    tmp_path: Path, changed: dict[str, Any], said: str
) -> None:
    two_checkpoints(tmp_path)
    with pytest.raises(RecipeError, match=said):
        Checkpoints(tmp_path / "checkpoints", changed).read(8)


class Bomb:
    """Tells, by a file, that a pickle was executed."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return Path.touch, (self.path,)


def test_a_planted_pickle_is_refused_and_executes_nothing(tmp_path: Path) -> None:
    checkpoints = two_checkpoints(tmp_path)
    bomb = pickle.dumps(Bomb(tmp_path / "boom"))
    for part in ("step_8.safetensors", "step_8.json"):
        (checkpoints.folder / part).write_bytes(bomb)
        with pytest.raises(DamagedError):
            checkpoints.read(8)
    # Even with a document that vouches for it.
    checkpoints.write(saved(8))
    path = checkpoints.folder / "step_8.json"
    document = json.loads(path.read_text())
    (checkpoints.folder / "step_8.safetensors").write_bytes(bomb)
    document["tensors"] = f"sha256:{hashlib.sha256(bomb).hexdigest()}"
    del document["document"]
    text = json.dumps(document, separators=(",", ":"))
    document["document"] = f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"
    path.write_text(json.dumps(document, separators=(",", ":")))
    with pytest.raises(DamagedError, match=r"step_8\.safetensors"):
        checkpoints.read(8)
    assert not (tmp_path / "boom").exists()


def test_a_writer_that_dies_at_any_moment_leaves_a_whole_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process ends at the n-th call that touches the disk, for every n."""

    class Death(BaseException):
        pass

    real_fsync, real_replace, real_unlink = os.fsync, Path.replace, Path.unlink
    left = 0

    def count() -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise Death

    def unlink(path: Path, missing_ok: bool = False) -> None:
        if left >= 0:  # the dead clean up nothing
            count()
            real_unlink(path, missing_ok)

    monkeypatch.setattr(os, "fsync", lambda handle: (count(), real_fsync(handle)))
    monkeypatch.setattr(Path, "replace", lambda path, to: (count(), real_replace(path, to)))
    monkeypatch.setattr(Path, "unlink", unlink)
    deaths = 0
    while True:
        left = 1000
        checkpoints = two_checkpoints(tmp_path / str(deaths))
        left = deaths
        try:
            checkpoints.write(saved(12))
        except Death:
            deaths += 1
        else:
            break
        whole = []
        for step in checkpoints.steps():
            with_faults = checkpoints.read(step)  # none is damaged
            whole.append(with_faults.step)
        assert whole[-2:] in ([8, 5], [12, 8])
    assert deaths >= 8


def test_a_disk_that_refuses_keeps_the_last_good_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoints = two_checkpoints(tmp_path)

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(files.WriteError, match=r"step_12.*No space left on device"):
        checkpoints.write(saved(12))
    assert checkpoints.steps() == [8, 5]
    assert not list(checkpoints.folder.glob(".*"))


# --- the state of a stack ---


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


MEMBERS = [("pebble", 0), ("sail_revkl", 1)]


def stop_after(run: Run, step: int) -> None:
    """Lets a run save itself after a step, and end."""
    after_step = run.after_step

    def stopping_tick(now: int, agent: Any) -> None:
        run.stopping = lambda: now == step
        after_step(now, agent)

    run.after_step = stopping_tick  # type: ignore[method-assign]


def results_of(run: Run) -> list[bytes]:
    return [(one.folder / name).read_bytes() for one in run.files for name in FILES]


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    run = Run(tiny_task(), members(), CPU, tmp_path_factory.mktemp("whole"), lambda _: None)
    run.execute()
    return results_of(run)


def members() -> list[Member]:
    return [Member(registry.load_entry(name, {}), seed) for name, seed in MEMBERS]


@pytest.mark.parametrize("step", [1, 59, 60, 79, 80, 81, 89, 90, 95, 110, 119, 120, 149])
def test_stopped_after_any_step_it_goes_on_to_the_identical_files(
    tmp_path: Path, reference: list[bytes], step: int
) -> None:
    """Before, at and after the first update, a session, a reference refresh, the last step."""
    run = Run(tiny_task(), members(), CPU, tmp_path, lambda _: None)
    stop_after(run, step)
    with pytest.raises(Stopped):
        run.execute()
    ((stack, states),) = resume_points(tiny_task(), members(), CPU, tmp_path, lambda _: None)
    assert states is not None
    again = Run(tiny_task(), stack, CPU, tmp_path, lambda _: None, states)
    assert again.step == step
    again.execute()
    assert results_of(again) == reference


def test_members_go_on_alone_to_the_files_they_would_have_written_in_the_stack(
    tmp_path: Path, reference: list[bytes]
) -> None:
    run = Run(tiny_task(), members(), CPU, tmp_path, lambda _: None)
    stop_after(run, 100)
    with pytest.raises(Stopped):
        run.execute()
    found = []
    for member in members():
        ((stack, states),) = resume_points(tiny_task(), [member], CPU, tmp_path, lambda _: None)
        alone = Run(tiny_task(), stack, CPU, tmp_path, lambda _: None, states)
        alone.execute()
        found += results_of(alone)
    assert found == reference


def test_the_newest_step_that_all_have_is_used_and_damage_is_named(
    tmp_path: Path, reference: list[bytes]
) -> None:
    for step in (70, 100, 130):
        ((stack, states),) = resume_points(tiny_task(), members(), CPU, tmp_path, lambda _: None)
        run = Run(tiny_task(), stack, CPU, tmp_path, lambda _: None, states)
        stop_after(run, step)
        with pytest.raises(Stopped):
            run.execute()
    newest = run.files[1].folder / "checkpoints" / "step_130.safetensors"
    data = newest.read_bytes()
    newest.write_bytes(flip(data, random.Random(0).randrange(8 * len(data))))
    notes: list[Any] = []
    ((stack, states),) = resume_points(tiny_task(), members(), CPU, tmp_path, notes.append)
    assert str(newest) in notes[0].text
    assert [state.step for state in states or ()] == [100, 100]
    again = Run(tiny_task(), stack, CPU, tmp_path, lambda _: None, states)
    again.execute()
    assert results_of(again) == reference


def test_a_library_agent_starts_over_when_it_was_stopped(tmp_path: Path, make_run: MakeRun) -> None:
    whole = make_run([("sb3_sac", 0)])
    whole.execute()
    one = [Member(registry.load_entry("sb3_sac", {}), 0)]
    run = Run(tiny_task(), one, CPU, tmp_path, lambda _: None)
    stop_after(run, 100)
    with pytest.raises(Stopped):
        run.execute()
    ((stack, states),) = resume_points(tiny_task(), one, CPU, tmp_path, lambda _: None)
    assert states is None
    again = Run(tiny_task(), stack, CPU, tmp_path, lambda _: None, states)
    again.execute()
    assert results_of(again) == results_of(whole)


# --- from the command line ---

OPTIONS = ["--env", "half_cheetah", "--agents", "pebble", "--seeds", "1", "--protocol", "quick"]
OPTIONS += [part for key, value in TINY.items() for part in ("--set", f"env.{key}={value}")]


def run(results: Path, *more: str) -> int:
    return main(["run", *OPTIONS, "--results", str(results), *more])


def test_a_second_process_says_who_trains_and_leaves(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mujoco_sail.training.lock.PATIENCE", 0)
    lock = Lock(tmp_path / "half_cheetah" / "pebble" / ".seed_0.lock")
    assert run(tmp_path) == 2
    assert f"seed_0 is in use by process {os.getpid()}" in capsys.readouterr().err
    assert not (tmp_path / "half_cheetah" / "pebble" / "seed_0").exists()
    lock.release()


def test_the_lock_of_a_dead_process_is_taken_over(tmp_path: Path) -> None:
    path = tmp_path / "half_cheetah" / "pebble" / ".seed_0.lock"
    path.parent.mkdir(parents=True)
    path.write_text("process 999999 on a machine that is no more\n")
    assert run(tmp_path) == 0
    assert not path.exists()


def test_a_copied_checkpoint_is_refused_before_anything_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    task = load_task("half_cheetah", "quick", TINY)
    member = Member(registry.load_entry("pebble", {}), 0)
    stopped = Run(task, [member], CPU, tmp_path / "there", lambda _: None)
    stop_after(stopped, 100)
    with pytest.raises(Stopped):
        stopped.execute()
    here = tmp_path / "here" / "half_cheetah" / "pebble" / "seed_0"
    here.mkdir(parents=True)
    (stopped.files[0].folder / "checkpoints").rename(here / "checkpoints")
    assert run(tmp_path / "here", "--set", "env.batch_size=17") == 2
    error = capsys.readouterr().err
    assert "env.batch_size is 16 there and 17 here" in error
    assert [path.name for path in here.iterdir()] == ["checkpoints"]


def test_a_run_that_failed_starts_over_unless_it_shall_resume(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = load_task("half_cheetah", "quick", TINY)
    member = Member(registry.load_entry("pebble", {}), 0)
    for resume, expected in ((True, "from step 100 on: pebble seed 0"), (False, None)):
        results = tmp_path / str(resume)
        stopped = Run(task, [member], CPU, results, lambda _: None)
        stop_after(stopped, 100)
        with pytest.raises(Stopped):
            stopped.execute()
        stopped.files[0].status("failed", 1.0, "for the test")
        notes: list[str] = []
        failures = benchmark.execute(
            task, [member], CPU, results, lambda _: None, notes.append, resume
        )
        assert failures == []
        assert any(expected in note for note in notes) if expected else notes == []
