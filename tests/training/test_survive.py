"""A benchmark that is killed repeatedly writes the same files as an uninterrupted one."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from pathlib import Path

import pandas as pd
import pytest
from helpers.command_line import PROGRAM, overrides
from helpers.runs import FILES, contents
from helpers.tiny import TINY

KILLS = 6
SIGNALS = (signal.SIGTERM, signal.SIGINT)
# The run has sessions, a wrapped query window, reference refreshes and many ends of episodes;
# checkpoints are written almost continuously.
CHANGES = TINY | {
    "steps": 480,
    "evaluation_every": 120,
    "log_every": 40,
    "labels": 40,
    "session_every": 40,
    "query_window": 3,
    "reference_every": 100,
    "replay_capacity": 400,
    "checkpoint_minutes": 0.002,
}

# The first two agents share a stack. All other agents are stopped in `test_every_agent`.
AGENTS = ("pebble", "sail_revkl", "rime")

pytestmark = pytest.mark.survive


def start(results: Path) -> subprocess.Popen[str]:
    """Starts a benchmark of these agents."""
    options = ["--env", "walker_walk", "--agents", ",".join(AGENTS), "--seeds", "1"]
    options += ["--protocol", "quick", "--results", str(results), "--device", "cpu"]
    options += overrides(CHANGES)
    return subprocess.Popen(
        [*PROGRAM, "run", *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def begun(results: Path, since: int) -> bool:
    """Whether a run has started since a time in ns."""
    return any(path.stat().st_mtime_ns > since for path in results.glob("*/*/*/run.toml"))


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    results = tmp_path_factory.mktemp("uninterrupted")
    process = start(results)
    output, _ = process.communicate()
    assert process.returncode == 0, output
    files = contents(results)
    assert len(files) == len(AGENTS) * len(FILES)
    logs = {
        agent: pd.read_csv(results / f"walker_walk/{agent}/seed_0/training.csv") for agent in AGENTS
    }
    for training in logs.values():
        assert training["updates"].iloc[-1] > CHANGES["steps"] - CHANGES["random_steps"]
        assert training["labels"].iloc[-1] == 40
    assert logs["sail_revkl"]["kl_to_reference"].iloc[-1] > 0
    assert logs["sail_revkl"]["kl_to_reference"].dropna().is_unique
    assert logs["rime"]["fitted_labels"].iloc[-1] > 0
    return files


def stop(results: Path, number: signal.Signals) -> None:
    """Starts the benchmark, which writes checkpoints and ends when it receives a signal."""
    since = time.time_ns()
    process = start(results)
    while not begun(results, since):
        time.sleep(0.01)
    time.sleep(0.5)
    process.send_signal(number)
    output, _ = process.communicate()
    assert process.returncode == 128 + number
    assert "the same command resumes from here" in output
    assert "Traceback" not in output
    assert len(list(results.glob("*/*/*/checkpoints/step_*.json"))) >= 2


def test_a_benchmark_stopped_and_killed_at_random_times_writes_identical_files(
    uninterrupted: dict[str, bytes], tmp_path: Path
) -> None:
    moment = random.Random(0)
    kills = resumed = finished = 0
    results = tmp_path / "0"
    for number in SIGNALS:
        stop(results, number)
    while kills < KILLS or not finished:
        since = time.time_ns()
        process = start(results)
        if kills < KILLS:
            # One kill in four is at any time, most likely during imports; the others are while the
            # stacks train or write.
            if kills % 4:
                while process.poll() is None and not begun(results, since):
                    time.sleep(0.01)
            time.sleep(moment.uniform(0, 2))
            # The benchmark may have ended by then. Every second kill spares the workers, which must
            # end by themselves.
            if process.poll() is None:
                (os.kill if kills % 2 else os.killpg)(process.pid, signal.SIGKILL)
        output, _ = process.communicate()
        resumed += "from step" in output
        kills += process.returncode == -signal.SIGKILL
        if process.returncode == 0:
            assert contents(results) == uninterrupted
            assert not list(results.glob("*/*/*/checkpoints"))
            assert not list(results.glob("*/*/.seed_*.lock"))
            finished += 1
            results = tmp_path / str(finished)
        else:
            assert process.returncode == -signal.SIGKILL, output
    assert resumed >= 3
