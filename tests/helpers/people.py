"""Runs with a person as the teacher, and scripts that answer in her place."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from helpers.runs import members_of
from helpers.tiny import CPU, tiny_task
from mujoco_sail.preferences.answers import Answer, AnswerLog
from mujoco_sail.preferences.person import Unanswered
from mujoco_sail.preferences.questions import Question, read_question, run_of
from mujoco_sail.training.run import Run
from mujoco_sail.training.worker import resume_points

Respond = Callable[[Path], None]  # answers the question in a file, in whole or in part


def truth(reference: Path, question: Question, pair: int) -> str:
    """What the teacher of another run said about the pair at a place in the order of asking."""
    table = pd.read_csv(reference / "feedback.csv", dtype=str)
    asked = table[table["session"] == str(question.session)]["label"].tolist()
    return {"1": "left", "0": "right", "0.5": "tie", "skip": "skip"}[asked[pair]]


def reply(path: Path, pair: int, again: bool, answer: str, page: str = "a") -> None:
    question = read_question(path)
    assert question is not None
    said = Answer(question.key, pair, again, answer, 1.5, page, time.time())  # type: ignore[arg-type]
    AnswerLog(run_of(path)).answer(question, said)


def scripted(reference: Path) -> Respond:
    """A person who answers every question as the teacher of another run."""

    def respond(path: Path) -> None:
        question = read_question(path)
        assert question is not None
        while True:
            given, _ = AnswerLog(run_of(path)).given(question.key)
            asks = question.to_ask({ask: answer.answer for ask, answer in given.items()})
            if not asks:
                return
            pair, again = asks[0]
            reply(path, pair, again, truth(reference, question, pair))

    return respond


def trained_by(respond: Respond, results: Path, agent: str = "pebble", **changes: object) -> Run:
    """A run to its end, of a new process after every question."""
    task, members = tiny_task(teacher="human", **changes), members_of([(agent, 0)])
    while True:
        ((stack, start),) = resume_points(task, members, CPU, results, lambda _: None)
        run = Run(task, stack, CPU, results, lambda _: None, start)
        try:
            run.execute()
        except Unanswered as wait:
            torch.manual_seed(0)
            respond(wait.path)
        else:
            return run


def waiting(results: Path, agent: str = "pebble", **changes: object) -> Path:
    """File of the first question of a new run, which waits for the answers."""
    task = tiny_task(teacher="human", **changes)
    run = Run(task, members_of([(agent, 0)]), CPU, results, lambda _: None)
    try:
        run.execute()
    except Unanswered as wait:
        return wait.path
    raise AssertionError("nothing was asked")


def sketch(_: Question) -> Callable[[np.ndarray], bytes]:
    """In the place of `clips.SegmentRenderer`: bytes that name the segment."""
    return lambda states: states.tobytes()[:64]
