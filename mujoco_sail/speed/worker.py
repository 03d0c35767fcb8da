"""Worker process of `mujoco-sail speed`: real training that advances only on request."""

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Literal

import psutil
import torch
from typing_extensions import override

from mujoco_sail.agents.base import Agent, Member
from mujoco_sail.agents.sac import SAC
from mujoco_sail.recipes.task import Task
from mujoco_sail.speed.roofline import ProductCall, middle_product
from mujoco_sail.system.machine import synchronise
from mujoco_sail.system.output import lasting_output
from mujoco_sail.training.run import Run

WARM_UP = 10  # updates before anything is timed: allocators, first-use initialisation


@dataclass(frozen=True)
class Request:
    """Request to a worker.

    Attributes:
        action: "train": environment steps with their updates; "overhead": the same, but measures
            the time outside of updates; "update": updates only; "due": an evaluation with its
            log; otherwise a matrix product, see `roofline`.
        seconds: Duration in seconds; 0 for a single call.
        threads: Number of threads of PyTorch.
        cores: Cores to run on, see `move_to`.
    """

    action: Literal["train", "overhead", "update", "due"] | ProductCall
    seconds: float
    threads: int = 1
    cores: frozenset[int] = frozenset()


class TimedRun(Run):
    """Run that pauses after its warm-up, executes requests and sleeps between them.

    Args:
        task: The task.
        members: Members of the stack.
        device: Device of the updates.
        results: Folder of the run folders.
        requests: Connection for requests and answers. The first answer, None, means that the
            warm-up is finished. Then each request is answered by calls per second, "overhead" by
            seconds outside of updates per second inside.
    """

    def __init__(
        self,
        task: Task,
        members: Sequence[Member],
        device: torch.device,
        results: Path,
        requests: Connection,
    ) -> None:
        super().__init__(task, members, device, results, lambda _: None)
        self.requests = requests
        self.pace: Iterator[None] | None = None

    @override
    def after_step(self, step: int, agent: Agent) -> None:
        # Returns when a request needs the next step.
        super().after_step(step, agent)
        if step >= self.task.random_steps + WARM_UP:
            self.pace = self.pace or self._obey(agent)
            next(self.pace)

    def _obey(self, agent: Agent) -> Iterator[None]:
        """Executes requests until the process ends; yields when an environment step is needed."""
        self.requests.send(None)
        while True:
            request: Request = self.requests.recv()
            torch.set_num_threads(request.threads)
            move_to(request.cores)
            call = self._call(request, agent)
            updates = Stopwatch(agent, self.device) if request.action == "overhead" else None
            synchronise(self.device)
            started, calls, elapsed = time.perf_counter(), 0, -1.0
            while elapsed < request.seconds:
                if call is None:
                    yield
                else:
                    call()
                calls += 1
                elapsed = time.perf_counter() - started
            synchronise(self.device)
            elapsed = time.perf_counter() - started
            self.requests.send(calls / elapsed if updates is None else updates.overhead(elapsed))

    def _call(self, request: Request, agent: Agent) -> Callable[[], object] | None:
        """Function that a request calls repeatedly; None for environment steps."""
        match request.action:
            case "train" | "overhead":
                return None
            case "update":
                assert isinstance(agent, SAC)
                return agent.update
            case "due":
                _ = self.evaluation.envs  # made once per run, so outside of the timing
                return partial(super().after_step, self.task.steps, agent)
            case way:
                return middle_product(self.task, len(self.members), self.device, way)


class Stopwatch:
    """Measures the time of an agent's updates by replacing its `update`.

    Args:
        agent: The agent.
        device: Device of the updates.
    """

    def __init__(self, agent: Agent, device: torch.device) -> None:
        assert isinstance(agent, SAC)
        self.agent, self.device = agent, device
        self.update, self.seconds = agent.update, 0.0
        vars(agent)["update"] = self

    def __call__(self) -> None:
        """Runs and times one update."""
        synchronise(self.device)
        started = time.perf_counter()
        self.update()
        synchronise(self.device)
        self.seconds += time.perf_counter() - started

    def overhead(self, elapsed: float) -> float:
        """Restores `update`; returns seconds outside of updates per second inside."""
        vars(self.agent)["update"] = self.update
        return elapsed / self.seconds - 1


@lasting_output()
def work(
    task: Task,
    members: Sequence[Member],
    device: torch.device,
    results: Path,
    variables: Mapping[str, str],
    requests: Connection,
) -> None:
    """Runs a worker process, which ends with its parent or after sending its error."""
    # The parent handles interrupts and stops its workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)
    os.environ.update(variables)  # before a peer's library is imported
    try:
        TimedRun(task, members, device, results, requests).execute()
    except (EOFError, BrokenPipeError):
        pass  # the parent has exited
    except Exception as error:
        with contextlib.suppress(BrokenPipeError):
            requests.send(f"{type(error).__name__}: {error}")


def cores_of(processes: int) -> list[frozenset[int]]:
    """Cores of each of several processes that run at the same time.

    Returns:
        One core per process if there are as many processes as cores, otherwise all cores for each.
        Empty sets if the system has no CPU affinity, as macOS.
    """
    if not hasattr(os, "sched_getaffinity"):
        return [frozenset()] * processes
    cores = sorted(os.sched_getaffinity(0))
    if processes == len(cores):
        return [frozenset([core]) for core in cores]
    return [frozenset(cores)] * processes


def move_to(cores: frozenset[int]) -> None:
    """Moves all threads of this process to some cores; an empty set changes nothing."""
    if not cores:
        return
    for thread in psutil.Process().threads():
        with contextlib.suppress(ProcessLookupError):  # the thread has ended
            os.sched_setaffinity(thread.id, cores)
