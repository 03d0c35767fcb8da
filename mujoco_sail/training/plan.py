"""Plan of a benchmark: device, unfinished runs, and the lines printed before training."""

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from mujoco_sail.agents.base import AgentSpec, Member
from mujoco_sail.core import compilation
from mujoco_sail.core.compilation import CompileError
from mujoco_sail.core.products import bfloat16_slowdown
from mujoco_sail.environments.factory import space_sizes
from mujoco_sail.recipes.listing import shorter_protocols
from mujoco_sail.recipes.settings import nearest
from mujoco_sail.recipes.task import Task
from mujoco_sail.results.write import RunWriter, run_folder, status_of
from mujoco_sail.system import scratch
from mujoco_sail.system.durations import duration
from mujoco_sail.system.errors import UserError, one_line
from mujoco_sail.system.files import check_writable
from mujoco_sail.system.lock import allow_open_files
from mujoco_sail.training import forecast, pool, selection
from mujoco_sail.training.options import DEVICES

LONG = 12 * 60 * 60  # seconds above which shorter protocols are suggested
NOTICEABLE = 1.2  # slowdown relative to float32; smaller values are within measurement noise


@dataclass(frozen=True)
class Job:
    """Unfinished runs of one environment.

    Attributes:
        task: Environment and protocol.
        members: Members to train.
        complete: Number of runs that are already complete.
        engine: One line if the engine of the recipe is replaced, else empty.
        memory: One line with the estimated memory; empty if other machines train the members.
    """

    task: Task
    members: Sequence[Member]
    complete: int
    engine: str
    memory: str


def choose_device(name: str) -> torch.device:
    """Selects the device for a value of `--device`.

    Raises:
        UserError: CUDA is requested but not available, or the name is unknown.
    """
    if name not in DEVICES:
        raise UserError(f"--device {one_line(name)}: {nearest(name, DEVICES)}")
    if name == "cuda" and not torch.cuda.is_available():
        raise UserError("--device cuda: PyTorch finds no CUDA device; use cpu or auto")
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)


def check_precision(task: Task, device: torch.device) -> None:
    """Checks that the device supports the precision of the task.

    Raises:
        UserError: The precision is TF32 and the device does not support it.
    """
    has_tf32 = device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 0)
    if task.precision == "tf32" and not has_tf32:
        raise UserError(
            f"{task.name}: key 'precision' is 'tf32', which CUDA devices have from compute "
            f"capability 8.0 on; expected float32 or bfloat16 on this {device.type}"
        )


def choose_engine(
    task: Task, device: torch.device, obstacle: str | None = None
) -> tuple[Task, str]:
    """Replaces the engine of the task if it is not available.

    Args:
        task: Environment and protocol.
        device: Device of the updates.
        obstacle: Reason why updates cannot be compiled, empty if they can; by default, this machine
            is checked.

    Returns:
        The task, and one line if its engine was replaced, else an empty text.
    """
    if device.type == "cpu":
        task = replace(task, cuda_graph=False)  # recorded in run.toml: the CPU has no graphs
    if task.engine == "eager":
        return task, ""
    if device.type == "cpu":
        obstacle = compilation.obstacle() if obstacle is None else obstacle
        if not obstacle:
            return task, ""
        reason = f"{obstacle}, so"
    else:
        reason = f"on {device.type}"
    line = (
        f"{task.name}: {reason} updates are not compiled: env.engine is now 'eager', whose results "
        "differ in the last bits"
    )
    return replace(task, engine="eager"), line


def prepare(
    tasks: Sequence[Task],
    specs: Sequence[AgentSpec],
    seeds: Sequence[int],
    device: torch.device,
    results: Path,
    *,
    here: bool = True,
    obstacle: str | None = None,
) -> list[Job]:
    """Determines the unfinished runs, checks requirements and creates the results folder for them.

    Args:
        tasks: Environments and protocol.
        specs: Agents.
        seeds: Seeds of each agent.
        device: Device of the updates.
        results: Folder of the results.
        here: Whether this machine trains the members; its memory and precision are then checked.
        obstacle: Reason why updates cannot be compiled, see `choose_engine`.

    Raises:
        UserError: The benchmark cannot be trained; no run has started.
    """
    chosen = [choose_engine(task, device, obstacle) for task in tasks]
    if here:
        _remove_leftovers()
        pool.check_semaphores()
        for task, _ in chosen:
            check_precision(task, device)
    unfinished = []
    for task, engine in chosen:
        try:
            unfinished.append(selection.unfinished_members(task, specs, seeds, results))
        except UserError as error:
            if not engine:
                raise
            raise UserError(f"{engine};", one_line(error)) from error  # may be the cause
    if any(unfinished):
        check_writable(results, f"--results {results}")
    jobs = []
    for (task, engine), members in zip(chosen, unfinished, strict=True):
        memory = ""
        if members and here:
            by_worker = pool.stacks_here(task, members, device)
            needed = forecast.memory_needed(task, by_worker, space_sizes(task), device)
            memory = forecast.check_memory(task, len(members), device, *needed)
            allow_open_files(len(members), len(by_worker))
        complete = len(specs) * len(seeds) - len(members)
        jobs.append(Job(task, members, complete, engine, memory))
    if not here:  # the locks of all environments are held at once
        allow_open_files(sum(len(job.members) for job in jobs), 0)
    return jobs


def _remove_leftovers() -> None:
    """Removes scratch folders of killed commands of this host."""
    places = set()
    with suppress(OSError):  # there is none that can be written
        places.add(Path(tempfile.gettempdir()))
    with suppress(CompileError, UserError):
        places.add(compilation.build_folder())
    for place in places:
        scratch.remove_leftovers(place)


def announce(job: Job) -> Iterator[str]:
    """Lines about a job that do not depend on the machine."""
    task, members = job.task, job.members
    if job.complete:
        total = job.complete + len(members)
        yield f"{task.name}: {job.complete} of {total} runs are complete already"
    if not members:
        return
    if job.engine:
        yield job.engine
    if task.labels_in_reach < task.labels:
        yield (
            f"{task.name}: {task.steps} steps end after {task.labels_in_reach} of "
            f"{task.labels} labels"
        )


def look_ahead(
    job: Job, recipe: str, device: torch.device, results: Path, resume_failed: bool = False
) -> Iterator[str]:
    """Lines about a job on this machine: its memory, and its measured time if it is long.

    Args:
        job: Job to describe.
        recipe: Name or path of the environment recipe.
        device: Device of the updates.
        results: Folder of the results.
        resume_failed: Whether failed runs are resumed too; otherwise they start from step 0.
    """
    task = job.task
    if not job.members:
        return
    yield job.memory
    if task.precision == "bfloat16" and device.type == "cpu":
        slowdown = bfloat16_slowdown()
        if slowdown > NOTICEABLE:
            yield (
                f"{task.name}: bfloat16 products are {slowdown:.1f} times slower than float32 "
                "on this processor; use float32"
            )
    yield from _time(job, recipe, device, results, resume_failed)


def _time(
    job: Job, recipe: str, device: torch.device, results: Path, resume_failed: bool
) -> Iterator[str]:
    """One line with the estimated time; none if the job is short."""
    task = job.task
    by_worker = pool.stacks_here(task, job.members, device)
    if not forecast.is_long(task, by_worker):
        return
    timed = [[stack for stack in stacks if forecast.measurable(stack)] for stacks in by_worker]
    others = {m.spec.name for m in job.members if not forecast.measurable([m])}
    if not any(timed):
        yield (
            f"{task.name}: the time of {', '.join(sorted(others))} cannot be estimated in advance"
        )
        return
    done = (_steps_done(task, member, device, results, resume_failed) for member in job.members)
    left = task.steps - min(done)
    threads = pool.threads(task, len(by_worker))
    timed = [stacks for stacks in timed if stacks]
    seconds = forecast.seconds_needed(task, timed, left, device, threads)
    if seconds is None:
        return
    line = f"{task.name}: this will take about {duration(seconds)}"
    if others:
        line += f", not counting {', '.join(sorted(others))}"
    if seconds > LONG and (shorter := shorter_protocols(recipe, task.steps)):
        line += f"; shorter: --protocol {' or '.join(shorter)}"
    yield line


def _steps_done(
    task: Task, member: Member, device: torch.device, results: Path, resume_failed: bool
) -> int:
    """Step of the newest checkpoint from which a member resumes, or 0."""
    folder = run_folder(results, task, member.spec.name, member.seed)
    if not resume_failed and status_of(folder, task, member.spec) == "failed":
        return 0
    files = RunWriter.of(results, task, member, device)
    return max(files.checkpoints.steps(), default=0)
