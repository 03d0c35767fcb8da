"""Runs every (agent, seed) of an environment: stacks, sharded over workers."""

import itertools
import multiprocessing
import os
import queue
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch

from mujoco_sail.recipes import Entry
from mujoco_sail.results import is_complete, run_folder
from mujoco_sail.run import Member, Progress, Run
from mujoco_sail.settings import RecipeError
from mujoco_sail.task import Task
from mujoco_sail.worlds import spaces

Report = Callable[[Progress], None]


@dataclass(frozen=True)
class Failure:
    """A stack that did not reach its end."""

    members: tuple[tuple[str, int], ...]
    reason: str


def choose_device(name: str) -> torch.device:
    """The device that `--device` asks for.

    Raises:
        RecipeError: CUDA is asked for and there is none.
    """
    if name == "cuda" and not torch.cuda.is_available():
        raise RecipeError("--device cuda: PyTorch finds no CUDA device; use cpu or auto")
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)


def unfinished(
    task: Task, entries: Sequence[Entry], seeds: Sequence[int], results: Path
) -> list[Member]:
    """The members whose runs are still to be made, arm by arm.

    Raises:
        RecipeError: The environment cannot be made, or a folder holds a run of another recipe.
    """
    spaces(task)
    return [
        Member(entry, seed)
        for entry, seed in itertools.product(entries, seeds)
        if not is_complete(run_folder(results, task, entry.name, seed), task, entry)
    ]


def check_writable(results: Path) -> None:
    """Makes the results folder.

    Raises:
        RecipeError: It cannot be written.
    """
    probe = results / f".writable-{os.getpid()}"
    try:
        results.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise RecipeError(f"--results {results}: cannot be written: {error.strerror}") from error


def stack_key(member: Member) -> tuple[Any, ...]:
    """Members with equal keys train as one stack."""
    entry = member.entry
    if not entry.agent.stackable:
        return (entry.name, member.seed)
    shared = [
        (f.name, getattr(entry.settings, f.name))
        for f in fields(entry.settings)
        if not f.metadata["per_member"]
    ]
    return (entry.path, *shared)


def shards(members: Sequence[Member], workers: int) -> list[list[list[Member]]]:
    """Stacks for each worker: equal numbers of members, stacks cut only where needed."""
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


def execute(
    task: Task, members: Sequence[Member], device: torch.device, results: Path, report: Report
) -> list[Failure]:
    """Trains members to their ends: one single-threaded worker per core, or one on CUDA.

    Args:
        task: Environment and protocol.
        members: Who trains.
        device: Where the updates run.
        results: Folder that the run folders lie in.
        report: Called with the progress of every stack.

    Returns:
        The stacks that failed; the others are complete.
    """
    cores = len(os.sched_getaffinity(0)) if device.type == "cpu" else 1
    context = multiprocessing.get_context("spawn")
    messages: multiprocessing.Queue[Progress | Failure] = context.Queue()
    workers = [
        context.Process(target=_work, args=(task, stacks, device, results, messages))
        for stacks in shards(members, cores)
    ]
    for worker in workers:
        worker.start()
    failures = []
    # A worker ends only after its messages lie in the queue.
    while any(worker.is_alive() for worker in workers) or not messages.empty():
        try:
            message = messages.get(timeout=0.2)
        except queue.Empty:
            continue
        if isinstance(message, Failure):
            failures.append(message)
        else:
            report(message)
    return failures + [
        Failure((), f"a worker process ended with exit code {worker.exitcode}")
        for worker in workers
        if worker.exitcode != 0
    ]


def _work(
    task: Task,
    stacks: Sequence[Sequence[Member]],
    device: torch.device,
    results: Path,
    messages: "multiprocessing.Queue[Progress | Failure]",
) -> None:
    """Trains stacks one after the other; a failed one does not stop the next."""
    torch.set_num_threads(1)
    parent = multiprocessing.parent_process()

    def report(progress: Progress) -> None:
        if parent is not None and not parent.is_alive():
            sys.exit("the benchmark's main process is gone")
        messages.put(progress)

    for stack in stacks:
        run = Run(task, stack, device, results, report)
        try:
            run.execute()
        except Exception as error:
            frame = traceback.extract_tb(error.__traceback__)[-1]
            where = f"{Path(frame.filename).name}:{frame.lineno}"
            messages.put(Failure(run.names, f"{type(error).__name__}: {error} ({where})"))
