"""Choice of the engine, and messages about it."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.command_line import overrides, run
from helpers.runs import MakeRun, members_of
from helpers.tiny import CPU, tiny_task

from mujoco_sail.core import compilation
from mujoco_sail.results.write import RunWriter, run_folder
from mujoco_sail.training import pool
from mujoco_sail.training.messages import Stopped
from mujoco_sail.training.plan import choose_engine
from mujoco_sail.training.pool import threads

SHORT = overrides({"engine": "compiled", "steps": 70, "evaluation_every": 70})


def test_without_a_compiler_eager_updates_are_reported_and_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert run(tmp_path, "half_cheetah", "sac", "1", *SHORT) == 0
    line = "no C++ compiler was found (g++, or what CXX names), so updates are not compiled"
    assert line in capsys.readouterr().out
    recorded = tomllib.loads((tmp_path / "half_cheetah/sac/seed_0/run.toml").read_text())
    assert recorded["env"]["engine"] == "eager"


def test_an_interrupted_run_names_the_reason_for_another_engine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    task, members = tiny_task(engine="compiled"), members_of([("sac", 0)])
    files = RunWriter(run_folder(tmp_path, task, "sac", 0), task, members[0].spec, 0, "cpu")
    files.begin()
    monkeypatch.setenv("CXX", "no-such-compiler")
    options = overrides({"engine": "compiled", "cuda_graph": task.cuda_graph})
    assert run(tmp_path, "half_cheetah", "sac", "1", *options) == 2
    cause, refusal = capsys.readouterr().err.splitlines()
    assert "no C++ compiler was found" in cause
    assert "env.engine is 'compiled' there and 'eager' here" in refusal
    files.write_status("complete", 1.0)
    assert run(tmp_path, "half_cheetah", "sac", "1", *options) == 0


def test_a_failing_compiler_gives_a_one_line_error_with_a_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = tmp_path / "broken"
    broken.write_text("#!/bin/sh\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setenv("CXX", str(broken))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "inductor"))
    assert run(tmp_path, "half_cheetah", "sac", "1", *SHORT) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "no compiled update at" in line
    assert "use --set env.engine=eager" in line


def test_a_cache_that_is_not_writable_gives_a_one_line_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "cache").write_text("a file")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert run(tmp_path, "half_cheetah", "sac", "1", *SHORT) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "set XDG_CACHE_HOME to another folder" in line


def test_an_obstacle_to_compilation_is_reported_with_its_consequence(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(compilation, "obstacle", lambda: "/tmp is full")
    task, line = choose_engine(tiny_task(engine="compiled"), CPU)
    assert task.engine == "eager"
    assert line == (
        "half_cheetah: /tmp is full, so updates are not compiled: env.engine is now 'eager', whose "
        "results differ in the last bits"
    )


def test_a_stop_during_compilation_ends_the_run_immediately(
    make_run: MakeRun, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    run = make_run([("sac", 0)], tiny_task(engine="compiled"))

    def compiles(*request: Any) -> bytes:
        run.stopping = lambda: True
        request[-1]()
        raise AssertionError("not stopped")

    monkeypatch.setattr(compilation, "compile_update", compiles)
    with pytest.raises(Stopped):
        run.execute()


def test_updates_are_recorded_on_cuda_and_compiled_on_the_cpu() -> None:
    asked = tiny_task(engine="compiled", cuda_graph=True)
    task, line = choose_engine(asked, torch.device("cuda"))
    assert (task.engine, task.cuda_graph) == ("eager", True)
    assert "on cuda updates are not compiled" in line
    task, line = choose_engine(asked, CPU)
    assert (task.engine, task.cuda_graph, line) == ("compiled", False, "")


def test_only_wide_networks_use_several_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "available_cores", lambda: 6)
    wide, narrow = tiny_task(hidden_units=512), tiny_task(hidden_units=256)
    assert [threads(wide, workers) for workers in (1, 2, 4)] == [6, 3, 1]
    assert threads(narrow, 1) == 1
