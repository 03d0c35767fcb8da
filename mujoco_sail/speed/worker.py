"""A worker process of `mujoco-sail speed`: real training that advances only on request."""

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

import torch

from mujoco_sail.agents.base import Agent, Member
from mujoco_sail.agents.sac import SAC
from mujoco_sail.recipes.task import Task
from mujoco_sail.speed import pinning
from mujoco_sail.speed.roofline import ProductCall, middle_product
from mujoco_sail.system.machine import synchronise
from mujoco_sail.system.output import lasting_output
from mujoco_sail.training.run import Run

WARM_UP = 10  # updates before anything is timed: allocators, first-use initialisation


@dataclass(frozen=True)
class Request:
    """What a worker shall do next.

    Attributes:
        action: "train": environment steps with their updates; "overhead": the same, where the
            time outside of updates is measured; "update": updates alone; "due": an evaluation
            with its log; else a matrix product alone.
        seconds: For how long; with 0, once.
        threads: Threads that PyTorch may use.
        cores: Where, see `pinning.move`.
    """

    action: Literal["train", "overhead", "update", "due"] | ProductCall
    seconds: float
    threads: int = 1
    cores: frozenset[int] = frozenset()


class TimedRun(Run):
    """A run that pauses after its warm-up, carries out requests and sleeps between them.

    Args:
        task: Environment and protocol.
        members: One stack.
        device: Where the updates run.
        results: Folder that the run folders lie in.
        requests: Where requests come from. The first answer, None, says that it is warm; then each
            request is answered by calls per second, "overhead" by the seconds outside of updates
            per second inside.
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

    def after_step(self, step: int, agent: Agent) -> None:
        """See `Run.after_step`; returns when the next step is wanted."""
        super().after_step(step, agent)
        if step >= self.task.random_steps + WARM_UP:
            self.pace = self.pace or self._obey(agent)
            next(self.pace)

    def _obey(self, agent: Agent) -> Iterator[None]:
        """Carries out requests until the process ends; yields to have an environment step done."""
        self.requests.send(None)
        while True:
            request: Request = self.requests.recv()
            torch.set_num_threads(request.threads)
            pinning.move(request.cores)
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
        """The function to call repeatedly; None stands for environment steps."""
        match request.action:
            case "train" | "overhead":
                return None
            case "update":
                assert isinstance(agent, SAC)
                return agent.update
            case "due":
                _ = self.evaluation.envs  # made once in a run
                return partial(super().after_step, self.task.steps, agent)
            case way:
                return middle_product(self.task, len(self.members), self.device, way)


class Stopwatch:
    """Replaces an agent's `update` and adds up the time spent in it.

    Args:
        agent: Whose updates.
        device: Where they run.
    """

    def __init__(self, agent: Agent, device: torch.device) -> None:
        assert isinstance(agent, SAC)
        self.agent, self.device = agent, device
        self.update, self.seconds = agent.update, 0.0
        vars(agent)["update"] = self

    def __call__(self) -> None:
        """One update."""
        synchronise(self.device)
        started = time.perf_counter()
        self.update()
        synchronise(self.device)
        self.seconds += time.perf_counter() - started

    def overhead(self, elapsed: float) -> float:
        """Puts `update` back; returns seconds outside of updates per second inside."""
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
    """A worker process: it ends with its parent, or after it has sent why it failed."""
    # An interrupt is for the parent, which ends its workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)
    os.environ.update(variables)  # before a peer's library is imported
    try:
        TimedRun(task, members, device, results, requests).execute()
    except (EOFError, BrokenPipeError):
        pass  # the parent is gone
    except Exception as error:
        with contextlib.suppress(BrokenPipeError):
            requests.send(f"{type(error).__name__}: {error}")
