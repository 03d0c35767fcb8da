"""The question to a person matters to runs with a person alone."""

from __future__ import annotations

import pytest

from mujoco_sail.results.versions import differ


@pytest.mark.parametrize("teacher", ["oracle", "human"])
def test_another_question_makes_another_run_only_where_it_was_asked(teacher: str) -> None:
    run = {"env.teacher": teacher, "env.question": "Which walks better?"}
    other = run | {"env.question": "Which runs better?"}
    old = {"env.teacher": teacher}  # written before there were questions
    asked = teacher == "human"
    assert differ("env.question", run, other) == asked
    assert differ("env.question", run, old) == asked
    assert not differ("env.question", run, dict(run))
