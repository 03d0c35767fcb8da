"""Queue of the open questions of a results folder, shared by several browser pages."""

import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mujoco_sail.labelling.clips import ClipCache
from mujoco_sail.preferences.answers import Answer, AnswerLog, NotOpenError, answers_of
from mujoco_sail.preferences.questions import FOLDER, LABELS, Ask, Question, read_question, run_of
from mujoco_sail.system.errors import UserError

LEASE = 120.0  # seconds for which a pair is one page's; then another page may get it, too
SPARE = 2  # pairs drawn beyond those that are asked for, in case some are refused
SWAPPED = {"left": "right", "right": "left"}


@dataclass(frozen=True)
class OpenQuestion:
    """A question whose file is on the disk.

    Attributes:
        path: Its file.
        question: The question.
        given: Answers so far.
        taken: Whether the run has taken the answers.
    """

    path: Path
    question: Question
    given: Mapping[Ask, Answer]
    taken: bool

    @property
    def asks(self) -> list[Ask]:
        """What is still to be asked."""
        return [] if self.taken else self.question.to_ask(answers_of(self.given))

    @property
    def labels(self) -> int:
        """Labels given so far."""
        first = [a for (_, again), a in self.given.items() if not again]
        return sum(LABELS[answer.answer] is not None for answer in first)


class QuestionQueue:
    """The open questions of a results folder; used by several threads.

    Args:
        results: Folder of the results.
        cache: Cache that renders the clips.
    """

    def __init__(self, results: Path, cache: ClipCache) -> None:
        self.results, self.cache = results, cache
        self._lock = threading.Lock()
        self._read: dict[Path, tuple[int, Question | None]] = {}
        self._leases: dict[tuple[str, Ask], tuple[str, float]] = {}

    def questions(self) -> list[OpenQuestion]:
        """All open questions, the oldest first, without those of runs with damaged answers."""
        found: dict[Path, tuple[int, Question | None]] = {}
        for path in self.results.glob(f"*/*/seed_*/{FOLDER}/session_*.npz"):
            try:
                changed = path.stat().st_mtime_ns
            except FileNotFoundError:
                continue
            known = self._read.get(path)
            found[path] = known if known and known[0] == changed else (changed, read_question(path))
        self._read = found
        order = sorted((changed, path) for path, (changed, _) in found.items())
        opened = []
        for _, path in order:
            if (question := found[path][1]) is not None:
                with suppress(UserError):  # the run reports it
                    given = AnswerLog(run_of(path)).given(question.key)
                    opened.append(OpenQuestion(path, question, *given))
        return opened

    def next(self, page: str) -> dict[str, Any]:
        """What a page shows next, as JSON."""
        with self._lock:
            opened = self.questions()
            self.cache.forget(one.question.key for one in opened)
            chosen = self._choose(opened, page)
        ahead = []
        for one in opened:
            asked = [pair for pair, _ in one.asks]
            spare = range(max(asked) + 1, one.question.pairs)[:SPARE] if asked else []
            for pair in [*asked, *spare]:
                ahead += [(one, pair, side) for side in (0, 1)]
        for one, pair, side in ahead:
            self.cache.clip(one.path, one.question, pair, side)
        own = any(a.page == page for one in opened if not one.taken for a in one.given.values())
        shown: dict[str, Any] = {
            "state": "ask" if chosen else ("answered" if own else "idle"),
            "undo": own,
            "left_in_all": sum(one.question.labels_left - one.labels for one in opened),
            "others": any(one.asks for one in opened) and chosen is None,
        }
        if chosen is None:
            return shown
        one, (pair, again) = chosen
        sides = (1, 0) if again else (0, 1)
        following = [ask for ask in one.asks if ask != (pair, again)][:1]

        def addresses(of: int) -> list[str]:
            return [f"clip/{one.question.key}/{of}/{side}" for side in sides]

        return shown | {
            "key": one.question.key,
            "pair": pair,
            "repeat": again,
            "question": one.question.task["question"],
            "title": one.question.task["title"],
            "left": len(one.asks) + (0 if again else one.question.repeats),
            "clips": addresses(pair),
            "ahead": [address for other, _ in following for address in addresses(other)],
        }

    def answer(self, key: str, ask: Ask, answer: str, seconds: float, page: str) -> None:
        """Stores an answer; the sides of a pair that is shown again are swapped.

        Raises:
            NotOpenError: The pair is not asked for.
            WriteError: The answer cannot be written.
        """
        one = self.find(key)
        pair, again = ask
        meant: Any = SWAPPED.get(answer, answer) if again else answer
        said = Answer(key, pair, again, meant, seconds, page, time.time())
        AnswerLog(run_of(one.path)).answer(one.question, said)

    def undo(self, page: str) -> None:
        """Undoes the newest answer of a page.

        Raises:
            NotOpenError: There is none that is still open.
            WriteError: It cannot be written.
        """
        newest: tuple[float, OpenQuestion] | None = None
        with self._lock:
            opened = self.questions()
        for one in opened:
            for answer in one.given.values():
                own = answer.page == page and not one.taken
                if own and (newest is None or answer.at > newest[0]):
                    newest = answer.at, one
        if newest is None:
            raise NotOpenError
        _, one = newest
        AnswerLog(run_of(one.path)).undo(one.question, page)

    def release(self, page: str) -> None:
        """Gives the pair of a page that was closed to any other page."""
        with self._lock:
            self._leases = {n: lease for n, lease in self._leases.items() if lease[0] != page}

    def find(self, key: str) -> OpenQuestion:
        """The open question with this key.

        Raises:
            NotOpenError: There is none.
        """
        with self._lock:
            for one in self.questions():
                if one.question.key == key:
                    return one
        raise NotOpenError

    def _choose(self, opened: list[OpenQuestion], page: str) -> tuple[OpenQuestion, Ask] | None:
        """The first pair that no other page has, which becomes this page's."""
        now = time.monotonic()
        self._leases = {
            name: (owner, end)
            for name, (owner, end) in self._leases.items()
            if end > now and owner != page
        }
        for one in opened:
            for ask in one.asks:
                if (name := (one.question.key, ask)) not in self._leases:
                    self._leases[name] = page, now + LEASE
                    return one, ask
        return None
