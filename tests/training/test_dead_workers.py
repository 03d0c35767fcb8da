"""Error messages about worker processes that died or cannot be started."""

from __future__ import annotations

import errno
import multiprocessing.synchronize
import os
from pathlib import Path
from typing import Any

import pytest
from helpers.command_line import run

from mujoco_sail.core import compilation
from mujoco_sail.training.pool import reason_of_death

# Agent that kills its own process.
KILLED = """
import os, signal
from mujoco_sail.agents.sac import SAC


class Killed(SAC):
    def learn_step(self, step):
        if step == 100:
            os.kill(os.getpid(), signal.SIGKILL)
        super().learn_step(step)
"""


def test_a_killed_worker_gives_one_line_with_its_members_and_the_likely_cause(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "killed.py").write_text(KILLED)
    (tmp_path / "killed.toml").write_text('title = "x"\nbase = "sac"\nclass = "killed:Killed"\n')
    assert (
        run(tmp_path / "results", "half_cheetah", f"{tmp_path}/killed.toml,random", workers=True)
        == 1
    )
    (line,) = capsys.readouterr().err.splitlines()
    assert line == (
        "mujoco-sail: failed: half_cheetah: killed seed 0: the worker process ended with SIGKILL; "
        "the system does that when memory runs out: train fewer seeds or agents at once; the same "
        "command resumes from the newest checkpoints"
    )


def test_a_worker_that_dies_after_its_runs_are_complete_is_no_failure(tmp_path: Path) -> None:
    last = KILLED.replace("if step == 100:", "if step == 149:").replace(
        "os.kill(os.getpid(), signal.SIGKILL)",
        "import atexit; atexit.register(lambda: os.kill(os.getpid(), signal.SIGSEGV))",
    )
    (tmp_path / "killed.py").write_text(last)
    (tmp_path / "killed.toml").write_text('title = "x"\nbase = "sac"\nclass = "killed:Killed"\n')
    assert run(tmp_path / "results", "half_cheetah", f"{tmp_path}/killed.toml", workers=True) == 0


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (-4, f"ended with SIGILL; a compiled update may be of another processor: remove "
         f"{compilation.cache_folder()};"),
        (-11, "ended with SIGSEGV; a library ended it;"),
        (3, "ended with exit code 3; a library ended it;"),
        (143, "ended with exit code 143; SIGTERM to this process alone stopped it"),
    ],
)  # fmt: skip
def test_the_exit_code_of_a_worker_is_explained(code: int, said: str) -> None:
    assert said in reason_of_death(code)


def test_a_system_without_semaphores_gives_a_one_line_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def missing(*arguments: Any) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(multiprocessing.synchronize._multiprocessing, "SemLock", missing)
    assert run(tmp_path / "results", "half_cheetah", "random", workers=True) == 2
    assert capsys.readouterr().err == (
        "mujoco-sail: no semaphore can be made for worker processes ([Errno 30] Read-only file "
        "system); on Linux they lie in /dev/shm, which must be there and writable\n"
    )
    assert not (tmp_path / "results").exists()
