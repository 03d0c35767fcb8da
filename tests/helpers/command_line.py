"""Calls of the command line, in this process and in a new one."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from helpers.tiny import TINY
from mujoco_sail.cli import main
from mujoco_sail.system.lock import Lock
from mujoco_sail.training import pool
from mujoco_sail.training.messages import Failure, Progress
from mujoco_sail.training.work_unit import WorkUnit
from mujoco_sail.training.worker import train_stack

PROGRAM = [sys.executable, "-m", "mujoco_sail"]


def overrides(changes: Mapping[str, Any]) -> list[str]:
    """Options `--set` for changes of a task."""
    words = {key: str(v).lower() if isinstance(v, bool) else v for key, v in changes.items()}
    return [part for key, value in words.items() for part in ("--set", f"env.{key}={value}")]


SMALL = overrides(TINY)


def run(
    folder: Path, env: str, agents: str, seeds: str = "1", *more: str, workers: bool = False
) -> int:
    """Runs a tiny benchmark and returns its exit code; see `without_workers`."""
    options = ("--env", env, "--agents", agents, "--seeds", seeds, "--protocol", "quick")
    with nullcontext() if workers else without_workers():
        return main(["run", *options, "--results", str(folder), *SMALL, *more])


@contextmanager
def without_workers() -> Iterator[None]:
    """Trains in this process, which saves the start of worker processes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pool, "_execute", _train_here)
        yield


def _train_here(
    units: Sequence[WorkUnit],
    locks: Sequence[Lock],
    report: Callable[[Progress | Failure], None],
    say: Callable[[str], None],
) -> list[Failure]:
    failures: list[Failure] = []
    send = partial(pool.deliver, failures, report, say)
    for unit in units:
        for stack in unit.stacks:
            train_stack(unit, stack, send, lambda: False)
    return failures


def fails(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Runs a command that must be refused and returns its message."""
    try:
        code = main(arguments)
    except SystemExit as stop:
        code = stop.code
    said = capsys.readouterr()
    assert code == 2
    assert said.out == ""
    assert 1 <= len(said.err.strip().splitlines()) <= 2, said.err
    return said.err


def program(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """Runs a command in a new process."""
    return subprocess.run(
        [*PROGRAM, *arguments], capture_output=True, text=True, check=False, **options
    )
