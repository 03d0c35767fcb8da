"""The report on a person: agreement, repeatability, and the teacher that is as wrong as she was."""

from __future__ import annotations

import errno
import os
import shutil
import tomllib
from pathlib import Path

import numpy as np
import pytest
from helpers.command_line import fails
from helpers.results import MakeFolder
from scipy.special import expit

from mujoco_sail.analysis import person
from mujoco_sail.cli import main
from mujoco_sail.preferences import answers
from mujoco_sail.preferences.answers import Answer, AnswerLog
from mujoco_sail.preferences.questions import Question
from mujoco_sail.recipes.load import load_task


def scripted(count: int, seed: int, beta: float, mistake: float) -> tuple[np.ndarray, np.ndarray]:
    """Margins, and the labels of a person with these faults."""
    rng = np.random.default_rng(seed)
    margin = rng.normal(size=count)
    margin /= np.sqrt(np.mean(margin**2))
    right = rng.random(count) < expit(beta * margin)
    return margin, np.where(rng.random(count) < mistake, ~right, right).astype(float)


def test_the_intervals_cover_a_beta_of_3_and_10_percent_of_mistakes() -> None:
    """In nearly all of 40 persons; the interval is asymptotic, and a mistake rate is near 0."""
    fits = [person.fit(*scripted(300, seed, 3.0, 0.1)) for seed in range(40)]
    betas = sum(f.beta_interval[0] <= 3.0 <= f.beta_interval[1] for f in fits)
    mistakes = sum(f.mistake_interval[0] <= 0.1 <= f.mistake_interval[1] for f in fits)
    assert min(betas, mistakes) >= 34
    assert sum(f.beta_interval[1] < 30 for f in fits) >= 35  # and they say something
    assert sum(f.mistake_interval[1] < 0.25 for f in fits) >= 35
    assert np.median([f.beta for f in fits]) == pytest.approx(3.0, rel=0.35)
    assert np.median([f.mistake for f in fits]) == pytest.approx(0.1, abs=0.04)


def test_the_fit_is_the_maximum_of_the_likelihood() -> None:
    margin, label = scripted(200, 0, 2.0, 0.15)
    found = person.fit(margin, label)

    def log_likelihood(beta: float, mistake: float) -> float:
        first = (1 - mistake) * expit(beta * margin) + mistake * expit(-beta * margin)
        return float(np.where(label == 1, np.log(first), np.log(1 - first)).sum())

    best = log_likelihood(found.beta, found.mistake)
    for beta in (0.95, 1.0, 1.05):
        for mistake in (-0.01, 0.0, 0.01):
            near = log_likelihood(beta * found.beta, max(found.mistake + mistake, 0))
            assert near <= best + 0.02
    edge = max(log_likelihood(found.beta_interval[0] * 0.95, m) for m in np.linspace(0, 0.5, 201))
    assert edge < best - 1.92


def test_a_person_without_mistakes_is_an_oracle() -> None:
    margin, _ = scripted(100, 0, 1.0, 0.0)
    found = person.fit(margin, (margin > 0).astype(float))
    assert found.beta_interval[1] == np.inf
    assert (found.mistake, found.mistake_interval[0]) == (0, 0)


@pytest.fixture
def answered(make: MakeFolder, monkeypatch: pytest.MonkeyPatch, results: Path) -> Path:
    """A run with 400 answers of a scripted person in sessions of ten, one of each shown twice."""
    monkeypatch.setattr(answers, "GRACE", 0.0)
    monkeypatch.setattr(answers.os, "fsync", lambda _: None)
    make("walker_walk", "pebble", 0, (1, 2, 3))
    margin, label = scripted(400, 1, 3.0, 0.1)
    log = AnswerLog(results / "walker_walk/pebble/seed_0")
    for session in range(40):
        question = Question(f"k{session}", 80, session, 0, 10, 1, 400, 20, {}, "pebble", 0)
        part = slice(10 * session, 10 * session + 10)
        for pair, one in enumerate(label[part]):
            said = "left" if one else "right"
            log.answer(question, _said(question, pair, False, said, session + pair / 10))
        again = "left" if label[part][0] == (session % 4 > 0) else "right"
        log.answer(question, _said(question, 0, True, again, session + 0.99))
        assert log.take(question, [*margin[part], *[0.0] * 10]) is not None
    return results


def _said(question: Question, pair: int, again: bool, answer: str, at: float) -> Answer:
    return Answer(question.key, pair, again, answer, 2.0 + pair, "a", at)  # type: ignore[arg-type]


def test_the_report_of_a_scripted_person_covers_her_faults(
    answered: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = tmp_path / "walker_walk_person.toml"
    assert main(["table", "--results", str(answered), "--teacher-report", str(recipe)]) == 0
    text = capsys.readouterr().out
    margin, label = scripted(400, 1, 3.0, 0.1)
    right = 100 * np.mean((label == 1) == (margin > 0))
    assert f"| agrees with the task reward | {right:.0f} % [" in text
    assert "| labels | 400 |" in text
    found = person.fit(margin, label)
    assert found.beta_interval[0] <= 3 <= found.beta_interval[1]
    assert found.mistake_interval[0] <= 0.1 <= found.mistake_interval[1]
    shares = [line for line in text.splitlines() if line.startswith("| same answer")]
    firsts = label[::10]
    same = sum((one == (n % 4 > 0)) == bool(one) for n, one in enumerate(firsts))
    assert shares[0].split("| ")[2].startswith(f"{100 * same / 40:.0f} % [")
    by_size = [line for line in text.splitlines() if " to " in line and "of 100 |" in line]
    agreement = [int(line.split("| ")[2].split(" ")[0]) for line in by_size]
    assert len(agreement) == 4
    assert agreement[0] < agreement[-1]
    teacher = tomllib.loads(recipe.read_text())["teachers"]["person"]
    assert teacher["beta"] == pytest.approx(found.beta, rel=0.01)
    task = load_task(str(recipe), "quick", {}, "person")
    assert (task.oracle.beta, task.oracle.mistake) == (teacher["beta"], teacher["mistake"])


def test_every_answer_of_several_runs_is_counted_once(
    answered: Path, tmp_path: Path, make: MakeFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    make("walker_walk", "pebble", 1, (1, 2, 3))
    runs = answered / "walker_walk/pebble"
    shutil.copytree(runs / "seed_0/questions", runs / "seed_1/questions")
    assert (
        main(["table", "--results", str(answered), "--teacher-report", str(tmp_path / "p.toml")])
        == 0
    )
    text = capsys.readouterr().out
    assert "| labels | 800 |" in text
    sizes = [line for line in text.splitlines() if " to " in line and "of 200 |" in line]
    assert len(sizes) == 4


def test_runs_that_were_not_asked_are_left_out(
    answered: Path, tmp_path: Path, make: MakeFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["table", "--results", str(answered), "--teacher-report", str(tmp_path / "p.toml")]
    assert main(words) == 0
    alone = capsys.readouterr().out
    make("walker_walk", "sac", 0, (1, 2, 3), answers=())
    assert main(words) == 0
    assert capsys.readouterr().out == alone


def test_answers_that_no_run_took_are_not_counted(answered: Path) -> None:
    log = AnswerLog(answered / "walker_walk/pebble/seed_0")
    before = person.answers(log.path.parent.parent)
    question = Question("open", 80, 99, 0, 10, 1, 400, 20, {}, "pebble", 0)
    log.answer(question, _said(question, 0, False, "left", 100.0))
    assert len(person.answers(log.path.parent.parent)) == len(before) == 440


@pytest.mark.parametrize(
    "damage", ["nonsense\n", "[]\n", '{"key":"k0","taken":1}\n', '{"key":"k0"}\n']
)
def test_damaged_answers_give_a_one_line_error(
    answered: Path, tmp_path: Path, damage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with (answered / "walker_walk/pebble/seed_0/questions/answers.jsonl").open("a") as file:
        file.write(damage)
    recipe = str(tmp_path / "p.toml")
    text = fails(capsys, "table", "--results", str(answered), "--teacher-report", recipe)
    assert "answers.jsonl" in text


def test_runs_without_a_person_have_no_report(
    make: MakeFolder, results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make("walker_walk", "pebble", 0, (1, 2, 3))
    for recipe, said in (("p.toml", "no answers of a person"), ("p.txt", "ends in .toml")):
        words = ["--results", str(results), "--teacher-report", str(tmp_path / recipe)]
        assert said in fails(capsys, "table", *words)
    assert not (tmp_path / "p.toml").exists()


def test_a_recipe_on_a_full_disk_gives_one_line(
    answered: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    recipe = tmp_path / "p.toml"
    words = ["--results", str(answered), "--teacher-report", str(recipe)]
    assert fails(capsys, "table", *words) == (
        f"mujoco-sail: {recipe}: cannot be written: No space left on device\n"
    )
    assert not recipe.exists()


def test_a_recipe_that_cannot_be_written_is_refused_before_results_are_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--results", str(tmp_path / "none"), "--teacher-report", "/dev/null/p.toml"]
    said = fails(capsys, "table", *words)
    assert said.startswith("mujoco-sail: --teacher-report /dev/null/p.toml: cannot be written: ")
