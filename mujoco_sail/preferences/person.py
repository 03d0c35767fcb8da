"""A person as the teacher: the run writes its question to a file, and waits for the answers."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from mujoco_sail.preferences import questions
from mujoco_sail.preferences.answers import AnswerLog
from mujoco_sail.preferences.pairs import Pairs
from mujoco_sail.preferences.questions import LABELS, REPEAT_EVERY, Question
from mujoco_sail.preferences.teacher import TeacherLabels, margin_unit
from mujoco_sail.recipes.settings import dump
from mujoco_sail.recipes.task import Task
from mujoco_sail.system.errors import UserError


class Unanswered(Exception):  # noqa: N818
    """Raised when the run must wait for a person; resumed later, it asks for the same pairs.

    Attributes:
        path: File of the question.
        question: The question.
    """

    def __init__(self, path: Path, question: Question) -> None:
        super().__init__(path, question)
        self.path, self.question = path, question

    def is_over(self) -> bool:
        """Whether the run need not wait: the question is answered, or its file is gone."""
        if not self.path.exists():
            return True
        try:
            return AnswerLog(questions.run_of(self.path)).is_answered(self.question)
        except UserError:  # which the run itself reports
            return True


class Person:
    """The person who answers for one member.

    Args:
        task: The task.
        agent: Name of the agent.
        seed: Seed of the member.
        run: Folder of the run.
        states: Returns the states after steps with given numbers, [..., 1 + S].
    """

    def __init__(
        self,
        task: Task,
        agent: str,
        seed: int,
        run: Path,
        states: Callable[[NDArray[np.int64]], NDArray[np.float64]],
    ) -> None:
        self.task, self.agent, self.seed = task, agent, seed
        self.run, self.states = run, states

    def label(
        self, pairs: Pairs, order: list[int], place: tuple[int, int, int], used: int, wanted: int
    ) -> TeacherLabels:
        """Labels the pairs of one member that are asked for; the others get 0.5, never to be read.

        Args:
            pairs: Candidate pairs of the round, [1, P, ...].
            order: Indices of the pairs in the order of asking.
            place: Environment step, session and round.
            used: Labels used before this session.
            wanted: Labels wanted from this round.

        Raises:
            Unanswered: The answers are not there.
        """
        step, session, number = place
        ordered = pairs.take(torch.tensor([order], device=pairs.inputs.device))
        after = used + self.task.labels_per_session
        question = Question(
            self._digest(ordered, place, wanted),
            step,
            session,
            number,
            wanted,
            after // REPEAT_EVERY - used // REPEAT_EVERY,
            max(0, self.task.labels_in_reach - after) + wanted,
            len(order),
            dump(self.task),
            self.agent,
            self.seed,
        )
        margin = ordered.margin()
        in_units = (margin / margin_unit(margin)).nan_to_num()  # nan if all returns are equal
        given = AnswerLog(self.run).take(question, in_units[0].tolist())
        if given is None:
            raise Unanswered(self._ask(question, ordered), question)
        questions.remove_questions(self.run)
        label, answered = torch.full_like(margin, 0.5), torch.ones_like(margin).bool()
        for (pair, again), answer in given.items():
            if not again:
                value = LABELS[answer.answer]
                label[0, order[pair]] = 0.5 if value is None else value
                answered[0, order[pair]] = value is not None
        return TeacherLabels(label, answered)

    def _ask(self, question: Question, ordered: Pairs) -> Path:
        """Writes the question with the states of its segments, unless it lies there already."""
        path = self.run / questions.FOLDER / question.file
        if questions.read_question(path) != question:
            start, valid = ordered.start[0].cpu().numpy(), ordered.valid[0].cpu().numpy()
            steps = valid.sum(-1).astype(np.int64)
            offset = np.minimum(np.arange(valid.shape[-1]), steps[..., None] - 1)
            states = self.states(start[..., None] + offset)
            questions.write_question(self.run, question, states, steps)
        return path

    def _digest(self, ordered: Pairs, place: tuple[int, int, int], wanted: int) -> str:
        """Digest of the run, the place in it, the wanted labels and the pairs in their order.

        Runs of equal seeds ask the same first pairs, so the pairs alone do not name a run.
        """
        about = self.task.name, self.agent, self.seed, place, wanted, ordered.inputs.shape
        digest = hashlib.sha256(repr(about).encode())
        for part in (ordered.inputs, ordered.valid, ordered.start):
            digest.update(part.cpu().numpy().tobytes())
        return digest.hexdigest()[:32]
