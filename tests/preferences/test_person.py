"""A person as the teacher: the run waits for her answers, and goes on as with any other teacher."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from helpers.people import reply, scripted, trained_by, waiting
from helpers.runs import FILES, members_of
from helpers.tiny import CPU, tiny_task
from scipy.special import expit

from mujoco_sail.analysis import person
from mujoco_sail.preferences import answers
from mujoco_sail.preferences.questions import read_question, run_of, write_question
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


def test_a_run_that_was_asked_under_another_key_asks_anew(tmp_path: Path) -> None:
    """As a version that made other keys has left it: answered in part."""
    expected = reference(tmp_path / "teacher", "oracle")
    path = waiting(tmp_path / "person")
    question = read_question(path)
    assert question is not None
    write_question(run_of(path), replace(question, key="old"), np.zeros(1), np.zeros(1, np.int64))
    reply(path, 0, False, "skip")
    run = trained_by(scripted(expected.files[0].folder), tmp_path / "person")
    assert files(run) == files(expected)


def test_the_report_finds_the_faults_of_a_person_who_answered_for_a_run(tmp_path: Path) -> None:
    """With beta 3 and 10 % of mistakes, by the returns that the oracle's run wrote."""
    changes = {"labels": 300, "labels_per_session": 300, "candidates_per_label": 2}
    oracle = reference(tmp_path / "oracle", "oracle", **changes).files[0].folder
    table = pd.read_csv(oracle / "feedback.csv")
    margin = (table["return_1"] - table["return_2"]).to_numpy()
    rng = np.random.default_rng(0)
    right = rng.random(300) < expit(3 * np.abs(margin) / np.sqrt(np.mean(margin**2)))
    right ^= rng.random(300) < 0.1
    first = right == (margin > 0)

    def respond(path: Path) -> None:
        for pair in range(300):
            reply(path, pair, False, "left" if first[pair] else "right")
        for pair in range(30):
            reply(path, pair, True, "left" if first[pair] else "right")

    run = trained_by(respond, tmp_path / "person", **changes)
    given = person.answers(run.files[0].folder)
    assert list(given["repeat"]) == [False] * 300 + [True] * 30
    assert given["same"].sum() == 30
    firsts = given[~given["repeat"]]
    told, strict = firsts["margin"].to_numpy(), margin != 0  # a segment may be drawn twice
    unit = margin[strict] / told[strict]  # that of all 600 candidates
    np.testing.assert_allclose(unit, unit.mean(), rtol=1e-4)
    assert unit.mean() == pytest.approx(np.sqrt(np.mean(margin**2)), rel=0.1)
    found = person.fit(told[strict], firsts["label"].to_numpy()[strict])
    assert found.beta_interval[0] <= 3 <= found.beta_interval[1] < 10
    assert found.mistake_interval[0] <= 0.1 <= found.mistake_interval[1] < 0.25
