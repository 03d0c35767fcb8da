"""Pool of worker processes that execute requests at the same time."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import TracebackType

import numpy as np
import torch

from mujoco_sail.agents.base import Member
from mujoco_sail.recipes.task import Task
from mujoco_sail.speed.worker import Request, cores_of, work
from mujoco_sail.system.machine import ending
from mujoco_sail.system.signals import signals_to_all_blocked
from mujoco_sail.training.spawning import CONTEXT

PATIENCE = 10.0  # seconds to wait for a worker to exit


class WorkerError(RuntimeError):
    """Error when a worker fails; the message states the reason."""


class WorkerPool:
    """Pool with one process per stack; all warm up at the same time and sleep between requests.

    Args:
        task: The task.
        stacks: Members of each worker.
        device: Device of the updates.
        results: Folder for the run folders.
        variables: Additional environment variables of the processes.

    Attributes:
        sizes: Number of members of each worker.
    """

    def __init__(
        self,
        task: Task,
        stacks: Sequence[Sequence[Member]],
        device: torch.device,
        results: Path,
        variables: Mapping[str, str],
    ) -> None:
        self.sizes = [len(stack) for stack in stacks]
        self.pipes: list[Connection] = []
        self.workers: list[BaseProcess] = []
        for stack in stacks:
            ours, theirs = CONTEXT.Pipe()
            arguments = (task, stack, device, results, dict(variables), theirs)
            worker = CONTEXT.Process(target=work, args=arguments, daemon=True)
            with signals_to_all_blocked():  # until the worker handles them
                worker.start()
            theirs.close()
            self.pipes.append(ours)
            self.workers.append(worker)

    def __enter__(self) -> "WorkerPool":
        """Returns the pool, whose workers have already started."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stops the workers; sleeping ones exit themselves, so that the compiler cleans up."""
        for pipe in self.pipes:
            pipe.close()
        for worker in self.workers:
            worker.join(PATIENCE if kind is None else 0)
            worker.terminate()
        for worker in self.workers:
            worker.join()

    def warm(self) -> None:
        """Waits until every worker has finished its warm-up.

        Raises:
            WorkerError: A worker failed.
        """
        self._answers(len(self.pipes))

    def run(self, request: Request, workers: int) -> np.ndarray:
        """Executes a request on the first `workers` workers, all at the same time.

        Returns:
            Calls per second of each worker.

        Raises:
            WorkerError: A worker failed.
        """
        for pipe, cores in zip(self.pipes[:workers], cores_of(workers), strict=True):
            with suppress(ConnectionError):  # the worker died; its answer is missing, too
                pipe.send(replace(request, cores=cores))
        return np.array(self._answers(workers))

    def _answers(self, workers: int) -> list[float]:
        answers = []
        for pipe, worker in zip(self.pipes[:workers], self.workers, strict=False):
            try:
                answer = pipe.recv()
            except (EOFError, ConnectionError):
                worker.join(PATIENCE)
                answer = f"its process ended with {ending(worker.exitcode or 0)}"
            if isinstance(answer, str):
                raise WorkerError(f"a worker failed: {answer}")
            answers.append(answer)
        return answers
