"""Closed pipes, terminals and streams do not interrupt training."""

from __future__ import annotations

import contextlib
import os
import pty
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers.command_line import overrides
from helpers.tiny import TINY

PROGRAM = [sys.executable, "-m", "mujoco_sail"]
PATIENCE = 120  # seconds, on a busy machine
# The shell closes the streams: Python's subprocess opens others in their place.
IN_A_SHELL = 'exec "$@" '


def run_command(results: Path, agents: str = "sac", **changes: Any) -> list[str]:
    options = ["--env", "half_cheetah", "--agents", agents, "--seeds", "1"]
    options += ["--protocol", "quick", "--results", str(results), "--device", "cpu"]
    options += overrides(TINY | changes)
    return [*PROGRAM, "run", *options]


# The tests themselves may run under nohup, which would be inherited.
HEEDING_HANGUPS = ["env", "--default-signal=HUP"]
started: list[subprocess.Popen[bytes]] = []


def start(command: list[str], **options: Any) -> subprocess.Popen[bytes]:
    process = subprocess.Popen([*HEEDING_HANGUPS, *command], start_new_session=True, **options)
    started.append(process)
    return process


@pytest.fixture(autouse=True)
def _nothing_is_left_running() -> Iterator[None]:
    yield
    for process in started:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    started.clear()


def status(results: Path) -> set[str]:
    return {tomllib.loads(path.read_text())["status"] for path in results.rglob("run.toml")}


@pytest.mark.parametrize("words", [["list"], ["--help"]])
def test_a_closed_pipe_is_not_an_error(words: list[str]) -> None:
    read, write = os.pipe()
    os.close(read)
    process = subprocess.run([*PROGRAM, *words], stdout=write, stderr=subprocess.PIPE, check=False)
    os.close(write)
    assert (process.returncode, process.stderr) == (0, b"")


@pytest.mark.usefixtures("three_arms")
def test_a_command_finishes_its_files_when_its_pipe_is_closed(
    results: Path, tmp_path: Path
) -> None:
    names = ["learning_curves", "effect_sizes", "return_against_labels"]
    command = [*PROGRAM, "plot", *names, "--results", str(results), "--out", str(tmp_path / "out")]
    process = start(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0)
    assert process.stdout is not None
    assert process.stderr is not None
    assert process.stdout.readline()
    process.stdout.close()
    assert (process.stderr.read(), process.wait()) == (b"", 0)
    assert {path.stem for path in (tmp_path / "out").iterdir()} == {*names}


def test_a_library_that_prints_in_a_worker_does_not_end_it(tmp_path: Path) -> None:
    """A print in a worker whose pipe is broken, by a module that every worker loads."""
    site = tmp_path / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(
        "import gymnasium\n"
        "make = gymnasium.make\n"
        "def chatty(*args, **named):\n"
        "    for _ in range(3):\n"
        "        print('a library says' * 1000, flush=True)\n"
        "    return make(*args, **named)\n"
        "gymnasium.make = chatty\n"
    )
    path = os.pathsep.join([str(site), os.environ.get("PYTHONPATH", "")])
    read, write = os.pipe()
    os.close(read)
    process = start(
        run_command(tmp_path / "results", "sac,sb3_ppo"),
        stdout=write,
        stderr=write,
        env={**os.environ, "PYTHONPATH": path},
    )
    os.close(write)
    assert process.wait() == 0
    assert status(tmp_path / "results") == {"complete"}


@pytest.mark.parametrize("closed", [">&-", "<&- >&- 2>&-"])
def test_streams_closed_at_the_start_change_no_file(closed: str, tmp_path: Path) -> None:
    command = ["sh", "-c", IN_A_SHELL + closed, "sh", *run_command(tmp_path, "sac,sb3_ppo")]
    assert subprocess.run(command, capture_output=True, check=False).returncode == 0
    assert status(tmp_path) == {"complete"}
    assert not [path for path in tmp_path.rglob("*") if b"members" in contents(path)]


def contents(path: Path) -> bytes:
    return path.read_bytes() if path.is_file() else b""


def test_output_to_a_full_disk_is_an_error_and_the_files_are_complete(tmp_path: Path) -> None:
    with Path("/dev/full").open("wb") as full:
        process = subprocess.run(
            run_command(tmp_path), stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert process.returncode == 1
    assert process.stderr == (
        "mujoco-sail: standard output: cannot be written: No space left on device\n"
    )
    assert status(tmp_path) == {"complete"}


def test_paths_outside_the_encoding_are_printed_as_escapes(tmp_path: Path) -> None:
    results = os.fsencode(tmp_path / "größe und é") + b"\xff"
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    for words in ([*PROGRAM, "table", "--results"], [*PROGRAM, "plot", "--results"]):
        process = subprocess.run(
            [*words, results], capture_output=True, env=environment, check=False
        )
        assert process.returncode == 2
        assert b"Traceback" not in process.stderr
        assert rb"gr\xf6\xdfe" in process.stderr


# --- signals ---


def endless(results: Path) -> list[str]:
    return run_command(results, steps=10**6, evaluation_every=10**6, log_every=50)


def wait_until(done: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def trains(results: Path) -> bool:
    tables = list(results.glob("*/sac/*/training.csv"))
    return bool(tables) and tables[0].read_text().count("\n") > 2


def checkpoints(results: Path) -> list[Path]:
    return list(results.glob("*/sac/*/checkpoints/step_*.json"))


def test_when_the_terminal_closes_the_run_saves_and_exits(tmp_path: Path) -> None:
    main, terminal = pty.openpty()
    # As in a shell: a new session with this controlling terminal.
    code = "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); "
    code += "os.execv(sys.argv[1], sys.argv[1:])"
    command = [sys.executable, "-c", code, *endless(tmp_path)]
    process = start(command, stdin=terminal, stdout=terminal, stderr=terminal)
    os.close(terminal)
    os.set_blocking(main, False)

    def drained() -> bool:
        with contextlib.suppress(BlockingIOError):
            os.read(main, 2**16)
        return trains(tmp_path)

    wait_until(drained)
    os.close(main)  # the kernel sends SIGHUP to everyone
    assert process.wait(PATIENCE) == 128 + signal.SIGHUP
    assert checkpoints(tmp_path)


def test_a_second_hangup_does_not_interrupt_the_saving(tmp_path: Path) -> None:
    process = start(endless(tmp_path), stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    wait_until(lambda: trains(tmp_path))
    os.killpg(process.pid, signal.SIGHUP)
    time.sleep(0.01)  # equal pending signals are merged
    os.killpg(process.pid, signal.SIGHUP)
    output, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 128 + signal.SIGHUP
    assert b"the same command resumes from here" in output
    assert b"Traceback" not in output
    assert b"resource_tracker" not in output
    assert checkpoints(tmp_path)


def test_under_nohup_a_hangup_is_ignored_and_a_batch_systems_warning_ends_the_run(
    tmp_path: Path,
) -> None:
    """Batch systems send the warning to all processes."""
    nohup = ["nohup", *endless(tmp_path)]
    process = start(nohup, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    wait_until(lambda: trains(tmp_path))
    os.killpg(process.pid, signal.SIGHUP)
    (training,) = tmp_path.glob("*/sac/*/training.csv")
    lines = training.read_text().count("\n")
    wait_until(lambda: process.poll() is not None or training.read_text().count("\n") > lines + 2)
    assert process.poll() is None
    for number in (signal.SIGUSR1, signal.SIGXCPU):
        os.killpg(process.pid, number)
        time.sleep(0.01)
    output, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 128 + signal.SIGUSR1
    assert b"the same command resumes from here" in output
    assert b"Traceback" not in output
    assert b"resource_tracker" not in output
    assert checkpoints(tmp_path)
