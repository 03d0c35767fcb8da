"""A person as the teacher: stored states of the simulator; stacks train while others wait."""

import shlex
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from mujoco_sail.agents.base import Agent, Member, Runner
from mujoco_sail.environments.vector import VectorEnv
from mujoco_sail.environments.wrappers import Array
from mujoco_sail.preferences.person import Person, Unanswered
from mujoco_sail.preferences.questions import Question
from mujoco_sail.recipes.task import Task
from mujoco_sail.results.write import run_folder
from mujoco_sail.training.messages import Stopped

POLL = 0.5  # seconds between two looks for answers

Stack = Sequence[Member]


def person_for(
    task: Task, members: Stack, results: Path, envs: Callable[[], VectorEnv]
) -> Person | None:
    """The person who answers for the only member of a stack; None for other teachers."""
    if not task.human:
        return None
    (member,) = members
    name, seed = member.spec.name, member.seed

    def states(steps: Array) -> Array:
        kept = envs().states
        assert kept is not None
        return kept.take(0, steps)

    return Person(task, name, seed, run_folder(results, task, name, seed), states)


def states_kept(task: Task) -> int:
    """Number of newest steps whose states are kept: those of the replay buffer, for a person."""
    return task.stored_transitions if task.human else 0


def asks_next(runner: Runner, step: int, agent: Agent) -> bool:
    """Whether a person is asked in the step after this one, in which the stack may have to wait."""
    task = runner.task
    due = task.human and task.session_at(step + 1) and runner.feedback.labels_left > 0
    return due and agent.labelled_pairs() is not None


def alone(task: Task, by_worker: Sequence[Sequence[Stack]]) -> list[list[Stack]]:
    """Stacks of each worker; with a person as the teacher, every member is a stack of its own.

    In a stack, one member that waits would hold up the others.
    """
    if not task.human:
        return [list(stacks) for stacks in by_worker]
    return [[[member] for stack in stacks for member in stack] for stacks in by_worker]


def where_to_answer(results: Path, question: Question) -> str:
    """Line for the user about a question."""
    name = f"{question.task['name']}: {question.agent} seed {question.seed}"
    return (
        f"{name}, step {question.step}: waits for {question.wanted} answers of a person; "
        f"to answer: mujoco-sail label --results {shlex.quote(str(results))}"
    )


def in_turn(
    stacks: Sequence[Stack],
    train: Callable[[Stack], Unanswered | None],
    stopping: Callable[[], bool],
) -> None:
    """Trains stacks one after the other; one that must wait lets the others go on.

    Args:
        stacks: The stacks.
        train: Trains a stack from its newest checkpoint on; returns what it waits for, if it does.
        stopping: Returns whether to stop.

    Raises:
        Stopped: Asked to stop while all stacks that are left wait.
    """
    turns: list[tuple[Stack, Unanswered | None]] = [(stack, None) for stack in stacks]
    while turns:
        turns = list(_waiting(turns, train))
        if turns and not any(wait is not None and wait.is_over() for _, wait in turns):
            if stopping():
                raise Stopped
            time.sleep(POLL)


def _waiting(
    turns: Sequence[tuple[Stack, Unanswered | None]],
    train: Callable[[Stack], Unanswered | None],
) -> Iterator[tuple[Stack, Unanswered | None]]:
    """Trains the stacks that need not wait; yields those that must afterwards."""
    for stack, wait in turns:
        still = wait if wait is not None and not wait.is_over() else train(stack)
        if still is not None:
            yield stack, still
