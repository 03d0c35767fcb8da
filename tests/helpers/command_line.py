"""Calls of the command line, in this process and in a new one."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from helpers.tiny import TINY
from mujoco_sail.cli import main

PROGRAM = [sys.executable, "-m", "mujoco_sail"]


def overrides(changes: Mapping[str, Any]) -> list[str]:
    """Options `--set` for changes of a task."""
    words = {key: str(v).lower() if isinstance(v, bool) else v for key, v in changes.items()}
    return [part for key, value in words.items() for part in ("--set", f"env.{key}={value}")]


SMALL = overrides(TINY)


def run(folder: Path, env: str, agents: str, seeds: str = "1", *more: str) -> int:
    """Runs a tiny benchmark and returns its exit code."""
    options = ("--env", env, "--agents", agents, "--seeds", seeds, "--protocol", "quick")
    return main(["run", *options, "--results", str(folder), *SMALL, *more])


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
