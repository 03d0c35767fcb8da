"""Questions and answers on the disk: what is asked next, and that nothing is lost or said twice."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import numpy as np
import pytest

from mujoco_sail.preferences import answers
from mujoco_sail.preferences.answers import Answer, AnswerLog, NotOpenError
from mujoco_sail.preferences.questions import (
    Ask,
    Question,
    read_question,
    read_states,
    write_question,
)

QUESTION = Question("k", 80, 0, 0, 3, 1, 8, 6, {"name": "hopper"}, "pebble", 0)


def said(pair: int, answer: str, again: bool = False, page: str = "a") -> Answer:
    return Answer("k", pair, again, answer, 1.0, page, time.time())  # type: ignore[arg-type]


def told(*given: tuple[int, str]) -> dict[Ask, str]:
    return {(pair, False): answer for pair, answer in given}


def test_pairs_are_asked_in_order_until_as_many_as_wanted_have_a_label() -> None:
    assert QUESTION.to_ask({}) == [(0, False), (1, False), (2, False)]
    assert QUESTION.to_ask(told((1, "left"))) == [(0, False), (2, False)]


def test_a_refusal_costs_no_label_and_the_next_pair_comes() -> None:
    assert QUESTION.to_ask(told((0, "skip"))) == [(1, False), (2, False), (3, False)]
    everything = told(*[(pair, "skip") for pair in range(6)])
    assert QUESTION.to_ask(everything) == []


def test_the_first_labelled_pairs_are_shown_again_when_all_are_labelled() -> None:
    given = told((0, "skip"), (1, "tie"), (2, "left"), (3, "right"))
    assert QUESTION.to_ask(given) == [(1, True)]
    assert QUESTION.to_ask(given | {(1, True): "skip"}) == []


def test_an_answer_is_taken_once(tmp_path: Path) -> None:
    log = AnswerLog(tmp_path)
    log.answer(QUESTION, said(0, "left"))
    for refused in (said(0, "right"), said(5, "left"), said(0, "left", again=True)):
        with pytest.raises(NotOpenError):
            log.answer(QUESTION, refused)
    given, taken = log.given("k")
    assert [(ask, answer.answer) for ask, answer in given.items()] == [((0, False), "left")]
    assert not taken


def test_many_pages_at_once_answer_every_pair_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    won: list[str] = []
    to_ask = Question.to_ask

    def slowly(question: Question, given: dict[Ask, str]) -> list[Ask]:
        asks = to_ask(question, given)
        time.sleep(0.005)  # others come in between, unless they are locked out
        return asks

    monkeypatch.setattr(Question, "to_ask", slowly)

    def press(page: str) -> None:
        for pair in range(3):
            try:
                AnswerLog(tmp_path).answer(QUESTION, said(pair, "left", page=page))
            except NotOpenError:
                continue
            won.append(page)

    threads = [threading.Thread(target=press, args=(f"p{n}",)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 3
    assert len(AnswerLog(tmp_path).entries()) == 3


def test_a_page_undoes_its_own_newest_answer_alone(tmp_path: Path) -> None:
    log = AnswerLog(tmp_path)
    log.answer(QUESTION, said(0, "left"))
    log.answer(QUESTION, said(1, "left"))
    log.answer(QUESTION, said(2, "left", page="b"))
    log.undo(QUESTION, "a")
    assert [*log.given("k")[0]] == [(0, False), (2, False)]
    log.undo(QUESTION, "a")
    with pytest.raises(NotOpenError):
        log.undo(QUESTION, "a")
    log.answer(QUESTION, said(1, "right"))
    assert log.given("k")[0][1, False].answer == "right"


def complete(log: AnswerLog) -> None:
    for pair in range(3):
        log.answer(QUESTION, said(pair, "left"))
    log.answer(QUESTION, said(0, "right", again=True))


def test_answers_are_taken_when_they_can_no_longer_be_undone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log, margins = AnswerLog(tmp_path), [0.5, 1.0, 2.0, 0.0, 0.0, 0.0]
    monkeypatch.setattr(answers, "GRACE", 1000.0)
    complete(log)
    assert not log.is_answered(QUESTION)
    assert log.take(QUESTION, margins) is None
    monkeypatch.setattr(answers, "GRACE", 0.0)
    given = log.take(QUESTION, margins)
    assert given is not None
    assert given[0, True].answer == "right"
    assert log.entries()[-1]["taken"]["margins"] == {"0": 0.5, "1": 1.0, "2": 2.0}
    for late in (lambda: log.undo(QUESTION, "a"), lambda: log.answer(QUESTION, said(0, "left"))):
        with pytest.raises(NotOpenError):
            late()
    lines = log.entries()
    assert log.take(QUESTION, margins) == given  # a run that was killed takes them again
    assert log.entries() == lines


def test_a_line_that_a_killed_process_left_incomplete_is_dropped(tmp_path: Path) -> None:
    log = AnswerLog(tmp_path)
    log.answer(QUESTION, said(0, "left"))
    with log.path.open("a") as file:
        file.write('{"key":"k","pair":1,"rep')
    assert [*log.given("k")[0]] == [(0, False)]
    log.answer(QUESTION, said(1, "tie"))
    assert [*log.given("k")[0]] == [(0, False), (1, False)]


def test_a_question_is_read_as_it_was_written_and_replaces_others(tmp_path: Path) -> None:
    states = np.random.default_rng(0).normal(size=(6, 2, 4, 3))
    steps = np.full((6, 2), 4)
    steps[1, 1] = 2
    old = Question(**{**vars(QUESTION), "session": 7, "key": "other"})
    before = write_question(tmp_path, old, states, steps)
    path = write_question(tmp_path, QUESTION, states, steps)
    assert read_question(path) == QUESTION
    assert read_question(before) is None
    np.testing.assert_array_equal(read_states(path, 1, 1), states[1, 1, :2])
    path.write_bytes(path.read_bytes()[:100])
    assert read_question(path) is None
