"""Compilation of updates: folders, compilers, failures and the compiling process."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
import torch

from mujoco_sail.core import compilation
from mujoco_sail.core.compilation import CompileError, build_folder, compile_update, obstacle

NOTHING: Any = None


@pytest.fixture(autouse=True)
def _scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))


def mounted(monkeypatch: pytest.MonkeyPatch, folder: Path, flag: int, free: int) -> None:
    """Makes a folder appear as a separate file system."""
    real = os.statvfs

    def statvfs(path: Any) -> Any:
        if Path(path) != folder:
            return real(path)
        return SimpleNamespace(f_flag=flag, f_bavail=free, f_frsize=1)

    monkeypatch.setattr(os, "statvfs", statvfs)


@pytest.mark.parametrize(
    ("flag", "free", "reason"),
    [(os.ST_NOEXEC, 2**40, "is mounted noexec"), (0, 1000, "is full")],
)
def test_a_folder_unsuitable_for_compilation_is_skipped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flag: int, free: int, reason: str
) -> None:
    assert build_folder() == tmp_path
    mounted(monkeypatch, tmp_path, flag, free)
    assert compilation.unfit(tmp_path) == reason
    assert build_folder() != tmp_path


def test_a_folder_with_a_space_in_its_path_is_skipped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spaced = tmp_path / "with a space"
    spaced.mkdir()
    monkeypatch.setenv("TMPDIR", str(spaced))
    assert "a space" in compilation.unfit(spaced)
    assert build_folder() != spaced
    assert obstacle() == ""


@pytest.mark.parametrize("others_are_fit", [True, False])
def test_the_cache_folder_is_created_to_compile_in_only_if_no_other_is_fit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, others_are_fit: bool
) -> None:
    cache = tmp_path / "home" / ".cache" / "mujoco-sail"
    monkeypatch.setattr(compilation, "cache_folder", lambda: cache)
    if not others_are_fit:
        for folder in (tmp_path, Path("/tmp"), Path("/var/tmp")):
            mounted(monkeypatch, folder, os.ST_NOEXEC, 2**40)
    assert obstacle() == ""
    assert build_folder() == (tmp_path if others_are_fit else cache)
    assert cache.exists() == (not others_are_fit)


def test_without_a_suitable_folder_the_reasons_are_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compilation, "_folders", lambda: iter([tmp_path, tmp_path / "none"]))
    mounted(monkeypatch, tmp_path, os.ST_NOEXEC, 0)
    reason = f"{tmp_path} is mounted noexec; {tmp_path}/none cannot be used (No such file or"
    assert reason in obstacle()
    with pytest.raises(CompileError, match="is mounted noexec"):
        build_folder()


def test_a_compiler_command_of_several_words_is_wrapped_in_one_program(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CXX", "env LANG=C g++")
    assert obstacle() == ""
    script = compilation._environment(tmp_path)["CXX"]
    assert Path(script).name == "g++"
    version = subprocess.run([script, "--version"], capture_output=True, text=True, check=True)
    assert "Free Software Foundation" in version.stdout


@pytest.mark.parametrize(
    "name", ["no-such-compiler", "no-such-launcher g++", "env no-such-g++", "g++ '"]
)
def test_a_missing_compiler_is_an_obstacle(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv("CXX", name)
    assert obstacle() == "no C++ compiler was found (g++, or what CXX names)"


def test_a_missing_home_folder_is_an_obstacle(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuses(name: str) -> Path:
        raise RuntimeError("could not determine the home directory")

    for homeless in (refuses, lambda name: Path("~/.cache", name)):
        monkeypatch.setattr(compilation, "user_cache_path", homeless)
        assert obstacle() == (
            "this user has no home folder to keep compiled updates in (set XDG_CACHE_HOME)"
        )


def test_modules_in_a_folder_with_a_space_are_linked_to_a_path_without_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spaced = tmp_path / "with a space"
    spaced.mkdir()
    (spaced / "module.py").touch()
    monkeypatch.syspath_prepend(str(spaced))
    first = compilation._environment(tmp_path)["PYTHONPATH"].split(os.pathsep)[0]
    assert " " not in first
    assert Path(first, "module.py").exists()


# --- the process ---


def runs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, script: str) -> None:
    """Replaces Python by a shell script."""
    program = tmp_path / "python"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))
    (tmp_path / "temporary").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("kill -KILL $$", "the compiling process ended: SIGKILL"),
        ("exit 3", "the compiling process ended: exit code 3"),
        ("echo CppCompileError: why > reason; exit 1", "CppCompileError: why"),
    ],
)
def test_a_failed_compilation_gives_the_reason_and_leaves_no_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, reason: str
) -> None:
    runs(monkeypatch, tmp_path, script)
    with pytest.raises(CompileError) as caught:
        compile_update(NOTHING, NOTHING, 1, lambda: None)
    assert str(caught.value).strip() == reason
    assert list((tmp_path / "temporary").iterdir()) == []


def test_a_stop_kills_the_compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started, pid = tmp_path / "started", tmp_path / "pid"
    runs(monkeypatch, tmp_path, f"sleep 600 & echo $! > {pid}; mv {pid} {started}; wait")

    def stopped() -> None:
        if started.exists():
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        compile_update(NOTHING, NOTHING, 1, stopped)
    while lives(int(started.read_text())):  # killed, but it may need some time to end
        time.sleep(0.01)
    assert list((tmp_path / "temporary").iterdir()) == []


def lives(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_messages_of_libraries_are_not_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    runs(monkeypatch, tmp_path, "echo W1128 No CUDA runtime is found >&2; echo x; : > update.so")
    assert compile_update(NOTHING, NOTHING, 1, lambda: None) == b""
    assert capfd.readouterr() == ("", "")


# The compiling process, with a fake compiler of a given duration.
PROCESS = """
import sys, time
from mujoco_sail.core import compilation


def compiles(seconds, *others):
    open("made", "w").close()
    time.sleep(seconds)
    return "made"


compilation._compile = compiles
compilation.main()
"""


@pytest.mark.parametrize(("seconds", "code"), [(0, 0), (600, -signal.SIGKILL)])
def test_the_process_ends_when_it_is_done_or_its_caller_has_ended(
    tmp_path: Path, seconds: int, code: int
) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", PROCESS], cwd=tmp_path, stdin=subprocess.PIPE, start_new_session=True
    )
    assert process.stdin is not None
    process.stdin.write(pickle.dumps((seconds, None, 1, torch.float32)))
    process.stdin.flush()
    if seconds:
        while not (tmp_path / "made").exists():
            time.sleep(0.05)
        process.stdin.close()
    assert process.wait() == code
    assert (tmp_path / "update.so").exists() == (not seconds)
