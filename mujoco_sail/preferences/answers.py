"""The answers of a person, appended to `answers.jsonl` in the folder `questions` of a run.

The file is only appended to; whoever writes holds an exclusive lock on it.
"""

import errno
import fcntl
import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from mujoco_sail.preferences.questions import FOLDER, Ask, Question
from mujoco_sail.system.errors import UserError
from mujoco_sail.system.files import WriteError, sync_folder
from mujoco_sail.system.lock import NO_LOCKS

ANSWERS = "answers.jsonl"
UNDO, TAKEN = "undo", "taken"
# Seconds after the last answer to a question in which it can be undone, before the run takes it.
GRACE = 5.0


class NotOpenError(Exception):
    """Error when an answer is for a pair that is not asked for, or nothing can be undone."""


@dataclass(frozen=True)
class Answer:
    """Answer of a person; a line of `answers.jsonl`.

    Attributes:
        key: Key of the question.
        pair: Place of the pair in the order.
        repeat: Whether the pair was shown for the second time; its sides are then swapped, and
            `answer` is that for the sides of the first time.
        answer: A key of `LABELS`, or `UNDO`, which withdraws the answer.
        seconds: Time from the first sight of the clips to the answer.
        page: Name that the page gave itself.
        at: Seconds since 1970.
    """

    key: str
    pair: int
    repeat: bool
    answer: Literal["left", "right", "tie", "skip", "undo"]
    seconds: float
    page: str
    at: float


class AnswerLog:
    """The answers of one run, shared by all processes.

    Args:
        run: Folder of the run.
    """

    def __init__(self, run: Path) -> None:
        self.path = run / FOLDER / ANSWERS

    def entries(self) -> list[dict[str, Any]]:
        """All lines, without a last one that a killed process left incomplete.

        Raises:
            UserError: A line is not what was written.
        """
        try:
            data = self.path.read_bytes()
        except FileNotFoundError:
            return []
        lines = data[: data.rfind(b"\n") + 1].splitlines()
        try:
            return [json.loads(line) for line in lines]
        except ValueError as error:
            raise self._damaged() from error

    def given(self, key: str) -> tuple[dict[Ask, Answer], bool]:
        """Answers to a question that are not undone, oldest first, and whether a run took them.

        Raises:
            UserError: A line is not what was written.
        """
        found: dict[Ask, Answer] = {}
        taken = False
        for entry in self.entries():
            try:
                if entry["key"] != key:
                    continue
                if TAKEN in entry:
                    taken = True
                    continue
                answer = Answer(**entry)
            except (KeyError, TypeError) as error:
                raise self._damaged() from error
            found.pop((answer.pair, answer.repeat), None)
            if answer.answer != UNDO:
                found[answer.pair, answer.repeat] = answer
        return found, taken

    def _damaged(self) -> UserError:
        return UserError(f"{self.path}: cannot be read: not what was written")

    def answer(self, question: Question, answer: Answer) -> None:
        """Appends an answer.

        Raises:
            NotOpenError: The pair is not asked for, or the run has taken the answers.
            WriteError: It cannot be written.
        """
        with self._locked() as file:
            given, taken = self.given(question.key)
            asks = question.to_ask(answers_of(given))
            if taken or (answer.pair, answer.repeat) not in asks:
                raise NotOpenError
            self._append(file, asdict(answer))

    def undo(self, question: Question, page: str) -> None:
        """Undoes the newest answer of a page to a question.

        Raises:
            NotOpenError: There is none, or the run has taken the answers.
            WriteError: It cannot be written.
        """
        with self._locked() as file:
            given, taken = self.given(question.key)
            own = [answer for answer in given.values() if answer.page == page]
            if taken or not own:
                raise NotOpenError
            self._append(file, asdict(own[-1]) | {"answer": UNDO, "at": time.time()})

    def take(self, question: Question, margins: Sequence[float]) -> dict[Ask, Answer] | None:
        """Takes the answers to a question, once and for all; None if they are not complete.

        Args:
            question: The question.
            margins: Difference of the pairs' returns in the unit of beta, [P], for the report.
        """
        if not self.is_answered(question):
            return None
        with self._locked() as file:
            given, taken = self.given(question.key)
            if not taken:
                if question.to_ask(answers_of(given)):
                    return None  # undone in the meantime
                shown = {str(pair): margins[pair] for pair, again in given if not again}
                about = {"step": question.step, "session": question.session, "margins": shown}
                self._append(file, {"key": question.key, TAKEN: about})
        return given

    def is_answered(self, question: Question) -> bool:
        """Whether a question is answered, and can no longer be undone."""
        given, taken = self.given(question.key)
        if taken or question.to_ask(answers_of(given)):
            return taken
        newest = max((answer.at for answer in given.values()), default=0.0)
        return not 0 <= time.time() - newest < GRACE

    @contextmanager
    def _locked(self) -> Iterator[int]:
        """Open file, locked against other writers, without an incomplete last line."""
        try:
            is_new = not self.path.exists()
            self.path.parent.mkdir(parents=True, exist_ok=True)
            file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
            if is_new:
                sync_folder(self.path.parent)
        except OSError as error:
            raise WriteError(error.errno, error.strerror, str(self.path)) from error
        try:
            try:
                fcntl.flock(file, fcntl.LOCK_EX)
            except OSError as error:
                if error.errno not in NO_LOCKS:
                    raise
            os.truncate(file, self.path.read_bytes().rfind(b"\n") + 1)
            yield file
        except OSError as error:
            raise WriteError(error.errno, error.strerror, str(self.path)) from error
        finally:
            os.close(file)

    def _append(self, file: int, entry: Mapping[str, Any]) -> None:
        line = json.dumps(entry, separators=(",", ":")).encode() + b"\n"
        if os.write(file, line) != len(line):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        os.fsync(file)


def answers_of(given: Mapping[Ask, Answer]) -> dict[Ask, str]:
    """The answers alone."""
    return {ask: answer.answer for ask, answer in given.items()}
