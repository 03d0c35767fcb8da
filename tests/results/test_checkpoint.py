"""Checkpoints: a damaged one, or one of another run, is an error."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.planted import Planted
from helpers.policies import replace
from helpers.runs import flip
from helpers.tiny import tiny_task

from mujoco_sail.agents.registry import load_spec
from mujoco_sail.results.checkpoint import Checkpoints, DamagedError, MemberState
from mujoco_sail.results.write import RunWriter, status_of
from mujoco_sail.system import files
from mujoco_sail.system.errors import UserError

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
    assert (found.step, found.plain, found.files) == (9, {"updates": 3}, {"rows": []})


def test_a_damaged_checkpoint_does_not_take_the_place_of_the_one_resumed_from(
    tmp_path: Path,
) -> None:
    checkpoints = two_checkpoints(tmp_path)
    (checkpoints.folder / "step_8.json").write_text("")
    checkpoints.write(saved(7))
    assert checkpoints.steps() == [7, 5]


@pytest.mark.parametrize("part", ["step_8.json", "step_8.safetensors"])
def test_any_flipped_bit_is_detected(tmp_path: Path, part: str) -> None:
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
def test_a_truncated_or_empty_file_is_detected(tmp_path: Path, part: str, cut: int) -> None:
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
def test_a_checkpoint_of_another_run_is_an_error_that_names_the_difference(
    tmp_path: Path, changed: dict[str, Any], said: str
) -> None:
    two_checkpoints(tmp_path)
    with pytest.raises(UserError, match=said):
        Checkpoints(tmp_path / "checkpoints", changed).read(8)


def test_a_checkpoint_is_used_once_an_extra_has_been_installed(tmp_path: Path) -> None:
    two_checkpoints(tmp_path)
    changed = ABOUT | {"versions": {"torch": "2", "dm_control": "1.0.28"}}
    assert Checkpoints(tmp_path / "checkpoints", changed).read(8).step == 8


def test_a_pickle_as_a_checkpoint_is_an_error_and_is_not_executed(tmp_path: Path) -> None:
    checkpoints = two_checkpoints(tmp_path)
    bomb = pickle.dumps(Planted(tmp_path / "boom"))
    for part in ("step_8.safetensors", "step_8.json"):
        (checkpoints.folder / part).write_bytes(bomb)
        with pytest.raises(DamagedError):
            checkpoints.read(8)
    # Even if the checksum in the JSON file is right.
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


def test_a_writer_killed_at_any_moment_leaves_a_complete_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process is killed at the n-th call that changes the disk, for every n."""

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
        if left >= 0:  # a killed process removes nothing
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
            with_faults = checkpoints.read(step)  # no checkpoint is damaged
            whole.append(with_faults.step)
        assert whole[-2:] in ([8, 5], [12, 8])
    assert deaths >= 8


def test_a_full_disk_keeps_the_last_checkpoint(
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


def test_a_run_that_recorded_its_teachers_in_another_order_goes_on(tmp_path: Path) -> None:
    task, spec = tiny_task(teacher="noisy+skip"), load_spec("pebble", {})
    RunWriter(tmp_path, task, spec, 0, "cpu").begin()
    replace(tmp_path / "run.toml", "noisy+skip", "skip+noisy")
    assert status_of(tmp_path, task, spec) == "running"
    now, then = (
        Checkpoints(tmp_path, {"env": {"teacher": name}}) for name in ("noisy+skip", "skip+noisy")
    )
    then.write(MemberState(1, {}, {}, {}))
    assert now.read(1).step == 1


def test_files_of_killed_writers_are_removed_when_the_run_goes_on(tmp_path: Path) -> None:
    checkpoints = two_checkpoints(tmp_path)
    kept = {path.name for path in checkpoints.folder.iterdir()}
    for name in (".step_9.safetensors.4711", ".step_9.json.4711", "step_9.safetensors"):
        (checkpoints.folder / name).write_text("x")
    task, spec = tiny_task(), load_spec("sac", {})
    RunWriter(tmp_path, task, spec, 0, "cpu").begin()
    assert {path.name for path in checkpoints.folder.iterdir()} == kept
