"""Workers import what they are sent, and run nothing of the script that started them."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest
from helpers.runs import members_of
from helpers.tiny import CPU, tiny_task

from mujoco_sail.training import pool
from mujoco_sail.training.spawning import CONTEXT

UNGUARDED = """
from mujoco_sail.training.spawning import CONTEXT

print("script", flush=True)
worker = CONTEXT.Process(target=print, args=("worker",))
worker.start()
worker.join()
"""


@pytest.mark.parametrize("command", [["script.py"], ["-m", "script"], ["-i", "script.py"]])
def test_a_worker_does_not_run_a_script_that_has_no_guard(
    command: list[str], tmp_path: Path
) -> None:
    (tmp_path / "script.py").write_text(UNGUARDED)
    done = subprocess.run(
        [sys.executable, *command],
        cwd=tmp_path,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "script\nworker\n"
    assert "Error" not in done.stderr


def test_a_script_s_own_workers_run_it_as_before() -> None:
    main = vars(sys.modules["__main__"])
    before = {name: main.get(name) for name in ("__file__", "__spec__")}
    with ProcessPoolExecutor(1, CONTEXT) as pool:
        assert pool.submit(len, "ab").result() == 2
    assert {name: main.get(name) for name in before} == before


def test_a_worker_draws_nothing_and_its_threads_do_not_spin(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("OMP_WAIT_POLICY")
    monkeypatch.setenv("MUJOCO_GL", "egl")
    names = ["MUJOCO_GL", "OMP_WAIT_POLICY"]
    with ProcessPoolExecutor(1, CONTEXT) as pool:
        assert list(pool.map(os.getenv, names)) == ["disable", "passive"]
    assert [os.getenv(name) for name in names] == ["egl", None]


def test_a_wait_policy_of_the_user_s_own_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_WAIT_POLICY", "active")
    with ProcessPoolExecutor(1, CONTEXT) as pool:
        assert pool.submit(os.getenv, "OMP_WAIT_POLICY").result() == "active"


def test_no_worker_outlives_an_error_of_whoever_watches(tmp_path: Path) -> None:
    """A notebook goes on after it, and its next cell needs the runs."""

    def report(news: object) -> None:
        raise RuntimeError("the display broke")

    members = members_of([("sac", 0)])
    with pytest.raises(RuntimeError, match="display"):
        pool.execute(tiny_task(steps=10_000), members, CPU, tmp_path, report)
    assert multiprocessing.active_children() == []
