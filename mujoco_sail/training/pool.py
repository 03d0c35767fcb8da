"""Train the members of an environment: stacks of members, distributed over worker processes."""

import itertools
import multiprocessing
import queue
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import fields
from pathlib import Path
from types import FrameType
from typing import Any

import torch

from mujoco_sail.agents.base import Member
from mujoco_sail.core import compilation
from mujoco_sail.recipes.task import Task
from mujoco_sail.system.errors import UserError, one_line
from mujoco_sail.system.lock import Lock
from mujoco_sail.system.machine import available_cores, ending
from mujoco_sail.system.signals import REPEATED, signals_to_all_blocked, stops_handled
from mujoco_sail.training import asking
from mujoco_sail.training.messages import RESUMES, Failure, Progress, UserMessage
from mujoco_sail.training.options import NO_EXTRAS, Extras
from mujoco_sail.training.selection import locked
from mujoco_sail.training.spawning import CONTEXT
from mujoco_sail.training.work_unit import WorkUnit
from mujoco_sail.training.worker import work

# Networks with at least this many hidden units are updated faster by two threads than by one.
# Narrower ones are slower, as the threads synchronise at every small product (docs/speed.md).
WIDE = 512
PAUSE = 0.05  # seconds between two looks for messages of workers

Message = Progress | Failure | UserMessage


class Interrupted(Exception):  # noqa: N818
    """Raised when a signal ended the benchmark.

    Attributes:
        number: Number of the signal.
        failures: Failures before it.
    """

    def __init__(self, number: int, failures: Sequence[Failure] = ()) -> None:
        super().__init__(number)
        self.number, self.failures = number, failures


def stack_key(member: Member) -> tuple[Any, ...]:
    """Key of a member; members with equal keys train as one stack."""
    spec = member.spec
    if not spec.agent.stackable:
        return (spec.name, member.seed)
    shared = [
        (f.name, getattr(spec.settings, f.name))
        for f in fields(spec.settings)
        if not f.metadata["per_member"]
    ]
    return (spec.agent, *shared)


def stacks_of_workers(members: Sequence[Member], workers: int) -> list[list[list[Member]]]:
    """Stacks of each worker: equal numbers of members, in as few parts of stacks as possible."""
    stacks: dict[tuple[Any, ...], list[Member]] = {}
    for member in members:
        stacks.setdefault(stack_key(member), []).append(member)
    line = [(key, member) for key, stack in stacks.items() for member in stack]
    workers = min(workers, len(line))
    bounds = [round(worker * len(line) / workers) for worker in range(workers + 1)]
    return [
        [
            [member for _, member in group]
            for _, group in itertools.groupby(line[start:end], key=lambda pair: pair[0])
        ]
        for start, end in itertools.pairwise(bounds)
    ]


def stacks_here(
    task: Task, members: Sequence[Member], device: torch.device
) -> list[list[Sequence[Member]]]:
    """Stacks of each worker on this machine, see `stacks_of_workers`."""
    return asking.alone(task, stacks_of_workers(members, max_workers(device)))


def max_workers(device: torch.device) -> int:
    """Maximum number of worker processes: one per core, or one on CUDA."""
    return available_cores() if device.type == "cpu" else 1


def threads(task: Task, workers: int) -> int:
    """Number of threads per worker: its share of the cores for wide networks, else 1.

    Results do not depend on this number.
    """
    return max(1, available_cores() // workers) if task.width >= WIDE else 1


def execute(
    task: Task,
    members: Sequence[Member],
    device: torch.device,
    results: Path,
    report: Callable[[Progress | Failure], None],
    say: Callable[[str], None] = print,
    resume_failed: bool = False,
    extras: Extras = NO_EXTRAS,
) -> list[Failure]:
    """Trains members to completion, with one worker per core, or one on CUDA.

    Args:
        task: Environment and protocol.
        members: Members to train; interrupted runs are resumed from their checkpoints.
        device: Device of the updates.
        results: Folder of the results.
        report: Called with the progress of every stack and with every failure.
        say: Called with lines for the user.
        resume_failed: Whether failed runs are resumed too; otherwise they start from step 0.
        extras: Optional outputs of the runs.

    Returns:
        The failures; all other members are complete.

    Raises:
        UserError: Another process trains one of the members, or a folder contains a different run.
        Interrupted: A signal arrived; resumable stacks have saved checkpoints.
    """
    with locked(task, members, results, say, resume_failed) as (left, locks):
        if not left:
            return []
        by_worker = stacks_here(task, left, device)
        units = [WorkUnit(task, stacks, device, results, extras) for stacks in by_worker]
        return _execute(units, locks, report, say)


def _execute(
    units: Sequence[WorkUnit],
    locks: Sequence[Lock],
    report: Callable[[Progress | Failure], None],
    say: Callable[[str], None],
) -> list[Failure]:
    """Trains work units of one environment, each in its own process."""
    # One queue per worker: a worker that is killed while it writes never releases the queue's lock.
    with signals_to_all_blocked():  # multiprocessing starts a helper process here
        queues: list[multiprocessing.Queue[Message]] = [CONTEXT.Queue() for _ in units]
    # Every worker holds every lock, so that the locks are held until the last worker has ended.
    shared = locks, threads(units[0].task, len(units))
    workers = [
        CONTEXT.Process(target=work, args=(unit, messages, *shared))
        for unit, messages in zip(units, queues, strict=True)
    ]
    failures: list[Failure] = []
    with _started(workers) as signals:
        try:
            for message in _received(workers, queues):
                deliver(failures, report, say, message)
        except BaseException:  # of `say` or `report`; in a notebook, workers must not outlive it
            _stop(workers)
            for _ in _received(workers, queues):
                pass
            raise
    if signals:
        raise Interrupted(signals[0], failures)
    for worker, unit in zip(workers, units, strict=True):
        if worker.exitcode != 0:
            failures += unit.failed(failures, reason_of_death(worker.exitcode or 0))
    return failures


def deliver(
    failures: list[Failure],
    report: Callable[[Progress | Failure], None],
    say: Callable[[str], None],
    message: Message,
) -> None:
    """Passes a message of a worker on, and adds it to the failures if it is one."""
    if isinstance(message, UserMessage):
        say(message.text)
        return
    if isinstance(message, Failure):
        failures.append(message)
    report(message)


def reason_of_death(code: int) -> str:
    """Describes how a worker process died, the likely cause and the remedy."""
    how, cause = ending(code), "a library ended it"
    if how == "SIGKILL":
        cause = "the system does that when memory runs out: train fewer seeds or agents at once"
    elif code == 128 + signal.SIGTERM:
        cause = "SIGTERM to this process alone stopped it, after its checkpoints"
    elif how == "SIGILL":
        folder = compilation.cache_folder()
        cause = f"a compiled update may be of another processor: remove {folder}"
    return f"the worker process ended with {how}; {cause}; {RESUMES}"


def check_semaphores() -> None:
    """Checks that the main process can communicate with workers.

    Raises:
        UserError: The system does not provide semaphores.
    """
    try:
        with signals_to_all_blocked():  # multiprocessing starts a helper process here
            CONTEXT.Event()
    except (OSError, ImportError) as error:
        raise UserError(
            f"no semaphore can be made for worker processes ({one_line(error)}); on Linux they lie "
            "in /dev/shm, which must be there and writable"
        ) from error


def _received(
    workers: Sequence[Any], queues: "Sequence[multiprocessing.Queue[Message]]"
) -> Iterator[Message]:
    """Yields the messages of the workers until all workers have ended."""
    while True:
        # A worker ends only after all its messages are in its queue.
        ended = not any(worker.is_alive() for worker in workers)
        received = 0
        for messages in queues:
            with suppress(queue.Empty):
                yield messages.get_nowait()
                received += 1
        if not received:
            if ended:
                return
            time.sleep(PAUSE)


def _stop(workers: Sequence[Any]) -> None:
    """Asks workers to write checkpoints and end; one that still starts ends at once."""
    for worker in workers:
        worker.terminate()


@contextmanager
def _started(workers: Sequence[Any]) -> Iterator[list[int]]:
    """Starts the workers; the first signal asks them to stop, a second one kills them.

    Yields:
        Signals received so far.
    """
    came: list[int] = []

    def on_signal(number: int, frame: FrameType | None) -> None:
        came.append(number)
        if len(came) == 1:
            _stop(workers)
        elif number not in REPEATED:
            for worker in workers:
                worker.kill()

    with ExitStack() as handling:
        try:
            with signals_to_all_blocked():
                for worker in workers:
                    worker.start()
                handling.enter_context(stops_handled(on_signal))
        except BaseException:  # in a notebook, other threads do not block signals
            for worker in workers:
                if worker.pid is not None:
                    worker.kill()
                    worker.join()
            raise
        yield came
