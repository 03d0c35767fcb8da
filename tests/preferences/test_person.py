"""A person as the teacher: the run waits for her answers, and goes on as with any other teacher."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.people import scripted, trained_by
from helpers.runs import FILES, members_of
from helpers.tiny import CPU, tiny_task

from mujoco_sail.preferences import answers
from mujoco_sail.training.run import Run


@pytest.fixture(autouse=True)
def _no_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answers, "GRACE", 0.0)


def reference(folder: Path, teacher: str, agent: str = "pebble", **changes: object) -> Run:
    run = Run(tiny_task(teacher=teacher, **changes), members_of([(agent, 0)]), CPU, folder, print)
    run.execute()
    return run


def files(run: Run) -> list[bytes]:
    return [(run.files[0].folder / name).read_bytes() for name in FILES]


@pytest.mark.parametrize("teacher", ["oracle", "noisy+skip", "equal"])
def test_a_person_who_answers_as_a_teacher_gets_its_run(teacher: str, tmp_path: Path) -> None:
    told = {"oracle.skip": 0.9} if "skip" in teacher else {}
    expected = reference(tmp_path / "teacher", teacher, **told)
    assert (b"skip" in files(expected)[-1]) == bool(told)
    run = trained_by(scripted(expected.files[0].folder), tmp_path / "person")
    assert files(run) == files(expected)
