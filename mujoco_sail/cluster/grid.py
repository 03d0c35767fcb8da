"""Training of a grid of environments, agents and seeds as tasks of a Ray cluster.

The main process divides the grid into work units, starts a Ray task for each and receives their
messages from a board, a Ray actor. A unit whose node was lost starts again on another node, from
the newest checkpoints of its members.
"""

import itertools
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

import torch

from mujoco_sail.agents.base import Member
from mujoco_sail.cluster import node
from mujoco_sail.cluster.connection import Cluster
from mujoco_sail.cluster.node import Began, Board
from mujoco_sail.environments.factory import space_sizes
from mujoco_sail.recipes.task import Task
from mujoco_sail.system.durations import duration
from mujoco_sail.system.errors import UserError, one_line
from mujoco_sail.system.lock import remove_if_free
from mujoco_sail.system.signals import REPEATED, stops_handled
from mujoco_sail.training import forecast, pool
from mujoco_sail.training.messages import Failure, Progress, UserMessage
from mujoco_sail.training.options import Extras
from mujoco_sail.training.plan import Job
from mujoco_sail.training.selection import locked
from mujoco_sail.training.work_unit import WorkUnit

WAIT = 0.5  # seconds between two reads of the board
TRIES = 2  # attempts for a unit, not counting losses of its node
WAVES = 2  # units per core, so that nodes that join later get some
SAID_EVERY = 10.0  # seconds between two lines with the progress


class Counts:
    """Counts of finished work units and environment steps.

    Args:
        units: All work units.
    """

    def __init__(self, units: Sequence[WorkUnit]) -> None:
        self.total = sum(unit.steps for unit in units)
        self.units = len(units)
        self.steps: dict[tuple[int, tuple[str, int]], int] = {}
        self.first: dict[tuple[int, tuple[str, int]], int] = {}  # done by a previous process
        self.done: set[int] = set()
        self.started = self.told = time.perf_counter()

    def take(self, number: int, news: Progress) -> None:
        """Processes the progress of a stack of a work unit."""
        for member in news.members:
            self.first.setdefault((number, member), news.step)
            self.steps[number, member] = news.step

    def end(self, number: int) -> None:
        """Marks a work unit as ended."""
        self.done.add(number)

    def line(self, nodes: int, waiting: int, running: int) -> str:
        """Line with the progress, or an empty text if the next line is not due yet."""
        now = time.perf_counter()
        if now - self.told < SAID_EVERY:
            return ""
        self.told = now
        steps, first = sum(self.steps.values()), sum(self.first.values())
        rate = (steps - first) / (now - self.started)
        left = f", {duration((self.total - steps) / rate)} left" if rate else ""
        return (
            f"cluster: {nodes} node{'s' if nodes != 1 else ''}; {len(self.done)} of {self.units} "
            f"tasks done, {running} running, {waiting} waiting; {rate:.0f} steps/s in all{left}"
        )


def stacks_of(jobs: Sequence[Job], places: int) -> Iterator[tuple[Task, list[list[Member]]]]:
    """Divides a grid into the stacks of its work units.

    The number of units of an environment is proportional to its members, at least one.

    Args:
        jobs: Unfinished runs of each environment.
        places: Total number of units.
    """
    everyone = sum(len(job.members) for job in jobs)
    for job in jobs:
        share = max(1, round(places * len(job.members) / everyone))
        for stacks in pool.stacks_of_workers(job.members, share):
            yield job.task, stacks


def execute(
    cluster: Cluster,
    jobs: Sequence[Job],
    device: torch.device,
    say: Callable[[str], None],
    resume_failed: bool,
    extras: Extras,
) -> list[Failure]:
    """Trains a grid to completion, with all environments at the same time.

    Args:
        cluster: Cluster to train on.
        jobs: Unfinished runs of each environment.
        device: Device of the updates.
        say: Called with lines for the user.
        resume_failed: Whether failed runs are resumed too; otherwise they start from step 0.
        extras: Optional outputs of the runs.

    Returns:
        The failures; all other members are complete.

    Raises:
        UserError: Another process trains one of the members, a folder contains a different run, or
            no node has enough memory for a unit.
        Interrupted: A signal arrived; resumable units have saved checkpoints.
    """
    places = cluster.gpus if device.type == "cuda" else WAVES * cluster.cores
    made = [
        WorkUnit(task, stacks, device, cluster.results, extras)
        for task, stacks in stacks_of(jobs, places)
    ]
    tasks = RayTasks(cluster, made, say)
    with ExitStack() as held:
        for job in jobs:
            held.enter_context(locked(job.task, job.members, cluster.results, say, resume_failed))
        signals = held.enter_context(_signals())
        failures = tasks.execute(signals)
        for unit in made:  # killed units have left their lock files
            for member in itertools.chain(*unit.stacks):
                with suppress(OSError):  # of a disk that has become read-only
                    remove_if_free(node.lock_of(unit, member))
        return failures


class RayTasks:
    """Work units of a benchmark as Ray tasks.

    Args:
        cluster: Cluster to train on.
        made: Work units.
        say: Called with lines for the user.
    """

    def __init__(
        self, cluster: Cluster, made: Sequence[WorkUnit], say: Callable[[str], None]
    ) -> None:
        self.cluster, self.units, self.say = cluster, made, say
        self.board = cluster.on(Board, cluster.ray.get_runtime_context().get_node_id()).remote()
        self.running: dict[Any, int] = {}  # Ray's reference -> number of a unit
        self.where: dict[int, str] = {}  # number of a started unit -> its node
        self.tries: Counter[int] = Counter()
        self.failures: list[Failure] = []
        self.counts = Counts(made)
        self.memory = [self._memory(unit) for unit in made]

    def execute(self, signals: Sequence[int]) -> list[Failure]:
        """Trains all units and returns the failures, see the function `execute`."""
        for number in range(len(self.units)):
            self._submit(number)
        stopped = False
        while self.running:
            done, _ = self.cluster.ray.wait(list(self.running), timeout=WAIT)
            self._listen()  # first: a unit sends all its messages before it ends
            for reference in done:
                self._end(reference, stopped)
            if stopped and not self.where:  # all started units have ended
                for reference in self.running:
                    self.cluster.ray.cancel(reference)
            elif signals and not stopped:
                stopped = True
                self.board.stop.remote()
            waiting = len(self.running) - len(self.where)
            if line := self.counts.line(len(self.cluster.nodes()), waiting, len(self.where)):
                self.say(line)
        if signals:
            raise pool.Interrupted(signals[0], self.failures)
        return self.failures

    def _submit(self, number: int) -> None:
        unit = self.units[number]
        gpus = 1 if unit.device.type == "cuda" else 0
        task = self.cluster.ray.remote(node.train).options(
            num_cpus=1, num_gpus=gpus, memory=self.memory[number], max_retries=0
        )
        self.running[task.remote(unit, number, self.board)] = number

    def _memory(self, unit: WorkUnit) -> int:
        sizes = space_sizes(unit.task)
        host, _ = forecast.memory_needed(unit.task, [unit.stacks], sizes, unit.device)
        kind = "GPU" if unit.device.type == "cuda" else "CPU"
        nodes = [each["Resources"] for each in self.cluster.nodes().values()]
        usable = [each for each in nodes if min(each.get("CPU", 0), each.get(kind, 0)) >= 1]
        most = max((int(each.get("memory", 0)) for each in usable), default=0)
        if host > most:
            raise UserError(
                f"{unit.task.name}: {len(unit.members)} members need {host / 2**30:.1f} GiB, no "
                f"node has more than {most / 2**30:.1f} GiB for Ray's tasks"
            )
        return int(host)

    def _end(self, reference: Any, stopped: bool) -> None:
        """Processes the end of a unit, or starts the unit again."""
        number = self.running.pop(reference)
        place, unit = self.where.pop(number, None), self.units[number]
        try:
            self.cluster.ray.get(reference)
        except Exception as error:
            if stopped:
                return
            lost = place is not None and place not in self.cluster.nodes()
            if lost or isinstance(error, self.cluster.ray.exceptions.NodeDiedError):
                names = sorted({agent for agent, _ in unit.members})
                self.say(f"{unit.task.name}: a node was lost; {', '.join(names)} start again")
            else:
                self.tries[number] += 1
            if self.tries[number] < TRIES:
                self.failures = unit.others(self.failures)  # they train again, too
                self._submit(number)
            else:
                reason = one_line(str(error).strip().splitlines()[-1])
                self.failures += unit.failed(self.failures, f"{type(error).__name__}: {reason}")
                self.counts.end(number)
        else:
            self.counts.end(number)

    def _listen(self) -> None:
        """Processes the new messages on the board."""
        for number, message in self.cluster.ray.get(self.board.take.remote()):
            match message:
                case Began():
                    self.where[number] = message.node
                case Progress():
                    self.counts.take(number, message)
                case Failure():
                    self.failures.append(message)
                case UserMessage():
                    self.say(message.text)


@contextmanager
def _signals() -> Iterator[list[int]]:
    """Collects stop signals; the second one ends the process."""
    came: list[int] = []

    def on_signal(number: int, frame: object) -> None:
        if came and number not in REPEATED:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        came.append(number)

    with stops_handled(on_signal):
        yield came
