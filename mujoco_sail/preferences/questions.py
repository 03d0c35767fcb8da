"""Questions to a person, as files in the folder `questions` of a run.

A question is one round of candidate pairs, in the order in which they are asked, in a file
`session_<n>_<round>.npz`: the run writes it before it waits, and removes it when it takes the
answers.
"""

import io
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from mujoco_sail.system.files import write_bytes

FOLDER = "questions"
# Labels by answer; None for a skipped pair.
LABELS: Mapping[str, float | None] = {"left": 1.0, "right": 0.0, "tie": 0.5, "skip": None}
# One in so many labelled pairs is shown a second time, with its sides swapped. The second answer is
# recorded, and not learned from.
REPEAT_EVERY = 10

Ask = tuple[int, bool]  # a pair by its place in the order, and whether it is its second time


@dataclass(frozen=True)
class Question:
    """One round of pairs of a session.

    Attributes:
        key: Digest of the run and its pairs; a resumed run that asks the same pairs gets the same
            key, and no two runs of a results folder share one.
        step: Environment step of the session.
        session: Number of the session, from 0.
        round: Number of the round; a second one follows if too many pairs are refused.
        wanted: Labels wanted from this round.
        repeats: Pairs to be shown a second time.
        labels_left: Labels that the run can still collect, this session's included.
        pairs: P, candidate pairs.
        task: Resolved recipe of the environment.
        agent: Name of the agent.
        seed: Seed of the member.
    """

    key: str
    step: int
    session: int
    round: int
    wanted: int
    repeats: int
    labels_left: int
    pairs: int
    task: Mapping[str, Any] = field(repr=False)
    agent: str
    seed: int

    @property
    def file(self) -> str:
        """Name of the file."""
        return f"session_{self.session}_{self.round}.npz"

    def to_ask(self, given: Mapping[Ask, str]) -> list[Ask]:
        """What is still to be asked, in order, given the answers so far.

        Pairs are asked in their order until `wanted` have a label. Then the first of these are
        shown again.
        """
        asks: list[Ask] = []
        labelled: list[int] = []
        for pair in range(self.pairs):
            if len(asks) + len(labelled) == self.wanted:
                break
            answer = given.get((pair, False))
            if answer is None:
                asks.append((pair, False))
            elif LABELS[answer] is not None:
                labelled.append(pair)
        if not asks and len(labelled) == self.wanted:
            again = [(pair, True) for pair in labelled[: self.repeats]]
            asks = [ask for ask in again if ask not in given]
        return asks


def write_question(
    run: Path, question: Question, states: NDArray[np.float64], steps: NDArray[np.int64]
) -> Path:
    """Writes a question and removes the run's other questions, which it no longer asks.

    Args:
        run: Folder of the run.
        question: The question.
        states: States after each step of both segments, in the order of asking, [P, 2, T, 1 + S];
            see `environments.states`.
        steps: Valid steps of both segments, [P, 2].

    Returns:
        The file.
    """
    file = io.BytesIO()
    about = np.array(json.dumps(asdict(question)))
    np.savez_compressed(file, about=about, states=states, steps=steps)
    path = run / FOLDER / question.file
    write_bytes(path, file.getvalue())
    remove_questions(run, path)
    return path


def remove_questions(run: Path, but: Path | None = None) -> None:
    """Removes all question files of a run except `but`."""
    for path in (run / FOLDER).glob("session_*.npz"):
        if path != but:
            path.unlink(missing_ok=True)


def read_question(path: Path) -> Question | None:
    """Reads a question without its states; None if there is none, or it is damaged."""
    try:
        with np.load(path, allow_pickle=False) as file:
            return Question(**json.loads(str(file["about"])))
    except (OSError, ValueError, TypeError, KeyError, EOFError, BadZipFile):
        return None


def read_states(path: Path, pair: int, side: int) -> NDArray[np.float64]:
    """States after each valid step of one segment of a question, [T, 1 + S]."""
    with np.load(path, allow_pickle=False) as file:
        states: NDArray[np.float64] = file["states"][pair, side]
        return states[: file["steps"][pair, side]]


def run_of(path: Path) -> Path:
    """Folder of the run that wrote a question."""
    return path.parent.parent
