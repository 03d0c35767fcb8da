"""Worker process, which trains stacks and resumes them from checkpoints."""

import itertools
import multiprocessing
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from multiprocessing.connection import wait
from multiprocessing.queues import Queue
from pathlib import Path

import torch

from mujoco_sail.agents.base import Member
from mujoco_sail.preferences.person import Unanswered
from mujoco_sail.recipes.task import Task
from mujoco_sail.results.checkpoint import Checkpoints, DamagedError
from mujoco_sail.results.write import RunWriter
from mujoco_sail.system.errors import UserError, one_line
from mujoco_sail.system.files import WriteError
from mujoco_sail.system.lock import Lock
from mujoco_sail.system.output import lasting_output
from mujoco_sail.system.signals import BATCH_SIGNALS, TERMINAL_SIGNALS
from mujoco_sail.training import asking
from mujoco_sail.training.messages import (
    RESUMES,
    Failure,
    MembersFailed,
    Progress,
    Stopped,
    UserMessage,
    is_of_machine,
    names_of,
)
from mujoco_sail.training.run import Run
from mujoco_sail.training.work_unit import WorkUnit

Send = Callable[[Progress | Failure | UserMessage], None]


@lasting_output()
def work(
    unit: WorkUnit,
    messages: "Queue[Progress | Failure | UserMessage]",
    locks: Sequence[Lock],
    threads: int,
) -> None:
    """Trains the stacks of a work unit one after the other, also after failures.

    SIGTERM makes the worker write checkpoints and end.

    Args:
        unit: Work unit.
        messages: Queue for messages to the main process.
        locks: Locks held by this process and the main process, until both have ended.
        threads: Number of PyTorch threads.
    """
    for number in TERMINAL_SIGNALS:
        signal.signal(number, signal.SIG_IGN)  # the main process handles it
    terminated: list[int] = []
    for number in (signal.SIGTERM, *BATCH_SIGNALS):
        signal.signal(number, lambda number, frame: terminated.append(number))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, BATCH_SIGNALS)
    threading.Thread(target=end_with_the_main_process, daemon=True).start()
    torch.set_num_threads(threads)

    def stopping() -> bool:
        return bool(terminated)

    def train(stack: Sequence[Member]) -> Unanswered | None:
        return train_stack(unit, stack, messages.put, stopping)

    with failures_told(unit, [], messages.put):
        asking.in_turn(unit.stacks, train, stopping)


def train_stack(
    unit: WorkUnit, stack: Sequence[Member], send: Send, stopping: Callable[[], bool]
) -> Unanswered | None:
    """Trains a stack, split into groups that resume from one step and fail independently.

    Returns:
        What the stack waits for, if it must wait for a person; it is then of one member.
    """
    wait: Unanswered | None = None
    groups: list[tuple[list[Member], int]] = []
    with failures_told(unit, stack, send):
        groups += resume_points(unit.task, stack, unit.device, unit.results, send)
    for members, step in groups:
        with failures_told(unit, members, send):
            try:
                _train(unit, members, step, send, stopping)
            except Unanswered as unanswered:
                wait = unanswered.with_traceback(None)  # its frames hold the whole stack
                send(UserMessage(asking.where_to_answer(unit.results, wait.question)))
    return wait


@contextmanager
def failures_told(unit: WorkUnit, members: Sequence[Member], send: Send) -> Iterator[None]:
    """Sends exceptions as failures of the members; exits the worker after `Stopped`."""
    env, names = unit.task.name, names_of(members)
    try:
        yield
    except Stopped:
        sys.exit(128 + signal.SIGTERM)
    except UserError as error:
        send(Failure(env, names, str(error), refused=True))
    except Exception as error:
        what = str(error) if isinstance(error, WriteError) else f"{type(error).__name__}: {error}"
        if is_of_machine(error):
            send(Failure(env, names, f"{one_line(what)}; after this is fixed, {RESUMES}"))
            return
        frame = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{Path(frame.filename).name}:{frame.lineno}"
        send(Failure(env, names, f"{what} ({where})"))


def _train(
    unit: WorkUnit, members: list[Member], step: int, send: Send, stopping: Callable[[], bool]
) -> None:
    """Trains one stack to completion; continues without members that fail."""
    where, say = (unit.device, unit.results), partial(_say, send)
    while members:
        run = Run(unit.task, members, *where, send, step, stopping, say, unit.extras)
        try:
            run.execute()
        except MembersFailed as failed:
            for name, reason in failed.reasons.items():
                send(Failure(unit.task.name, (name,), reason))
            members, step = failed.survivors, failed.step
        else:
            return


def _say(send: Send, text: str) -> None:
    send(UserMessage(text))


def resume_points(
    task: Task, stack: Sequence[Member], device: torch.device, results: Path, send: Send
) -> Iterator[tuple[list[Member], int]]:
    """Groups the members of a stack by the step to resume from.

    If there is a step at which all members have a checkpoint, all members resume from it.

    Yields:
        Members, and the step of their checkpoints; 0 without checkpoints.

    Raises:
        UserError: A checkpoint belongs to another run.
    """
    steps: dict[tuple[str, int], set[int]] = {}
    for member, name in zip(stack, names_of(stack), strict=True):
        files = RunWriter.of(results, task, member, device)
        steps[name] = set(_whole(files.checkpoints, send))
    common = set.intersection(*steps.values())

    def start(member: Member) -> int:
        return max(common or steps[member.spec.name, member.seed], default=0)

    for step, group in itertools.groupby(sorted(stack, key=start), start):
        members = list(group)
        if step:
            names = ", ".join(f"{agent} seed {seed}" for agent, seed in names_of(members))
            send(UserMessage(f"{task.name}: from step {step} on: {names}"))
        yield members, step


def _whole(checkpoints: Checkpoints, send: Send) -> Iterator[int]:
    """Steps of the intact checkpoints; reports damaged ones."""
    for step in checkpoints.steps():
        try:
            checkpoints.read(step)
        except DamagedError as error:
            send(UserMessage(f"ignoring a damaged checkpoint: {error}"))
        else:
            yield step


def end_with_the_main_process() -> None:
    """Ends this worker process when the main process has ended; runs in a thread."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)
