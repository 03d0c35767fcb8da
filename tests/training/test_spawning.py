"""Worker processes do not run the main script."""

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
def test_a_worker_does_not_run_a_script_without_main_guard(
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


def test_the_attributes_of_main_are_restored() -> None:
    main = vars(sys.modules["__main__"])
    before = {name: main.get(name) for name in ("__file__", "__spec__")}
    with ProcessPoolExecutor(1, CONTEXT) as pool:
        assert pool.submit(len, "ab").result() == 2
    assert {name: main.get(name) for name in before} == before


def test_workers_get_the_environment_variables(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("OMP_WAIT_POLICY")
    monkeypatch.setenv("MUJOCO_GL", "egl")
    names = ["MUJOCO_GL", "OMP_WAIT_POLICY"]
    with ProcessPoolExecutor(1, CONTEXT) as pool:
        assert list(pool.map(os.getenv, names)) == ["disable", "passive"]
    assert [os.getenv(name) for name in names] == ["egl", None]


def test_a_wait_policy_set_by_the_user_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_WAIT_POLICY", "active")
    with ProcessPoolExecutor(1, CONTEXT) as pool:
        assert pool.submit(os.getenv, "OMP_WAIT_POLICY").result() == "active"


def test_workers_end_after_an_error_in_the_display(tmp_path: Path) -> None:
    """In a notebook, the next cell may need the runs."""

    def report(news: object) -> None:
        raise RuntimeError("the display broke")

    members = members_of([("sac", 0)])
    with pytest.raises(RuntimeError, match="display"):
        pool.execute(tiny_task(steps=10_000), members, CPU, tmp_path, report)
    assert multiprocessing.active_children() == []
