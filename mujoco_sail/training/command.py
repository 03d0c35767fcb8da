"""Command `mujoco-sail run` on this machine."""

import argparse
import itertools
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from mujoco_sail.agents import registry
from mujoco_sail.agents.base import AgentSpec
from mujoco_sail.environments.factory import disable_rendering
from mujoco_sail.recipes.load import parse_seeds
from mujoco_sail.recipes.task import Task
from mujoco_sail.results.write import run_folder
from mujoco_sail.system.errors import UserError, one_line
from mujoco_sail.training import plan, pool, progress
from mujoco_sail.training.messages import Failure, names_of
from mujoco_sail.training.options import NO_EXTRAS, Extras

Grid = tuple[Sequence[Task], Sequence[AgentSpec], Sequence[int]]  # environments, agents, seeds
Execute = Callable[[argparse.Namespace, Grid, Extras], list[Failure]]


def run(args: argparse.Namespace) -> int:
    """Trains a grid of environments, agents and seeds on this machine; see `run_with`."""
    return run_with(_here, args)


def run_with(execute: Execute, args: argparse.Namespace) -> int:
    """Trains a grid of environments, agents and seeds.

    Args:
        execute: Function that trains the grid and returns the failures.
        args: Options of the command line.

    Returns:
        Exit code: 0 if all runs are complete, 1 if a run failed, 2 if all failures are refusals,
        128 + n after signal n.

    Raises:
        UserError: A recipe or an option is invalid; no run has started.
    """
    disable_rendering()
    extras = Extras(args.keep_preferences, tuple(dict.fromkeys(args.track)))
    extras.check()
    grid = load(args.env, args.agents, args.seeds, args.protocol, args.overrides, args.teacher)
    try:
        failures = execute(args, grid, extras)
    except pool.Interrupted as stop:
        _tell(stop.failures)
        print("stopped; the same command resumes from here")
        return 128 + stop.number
    _tell(failures)
    if failures:
        return 2 if all(failure.refused for failure in failures) else 1
    return 0


def _tell(failures: Sequence[Failure]) -> None:
    for failure in failures:
        print(f"mujoco-sail: {told(failure)}", file=sys.stderr)


def _here(args: argparse.Namespace, grid: Grid, extras: Extras) -> list[Failure]:
    device = plan.choose_device(args.device)
    return train(grid, args.env, device, args.results, args.resume, extras)


def load(
    envs: str,
    agents: str,
    seeds: str,
    protocol: str,
    overrides: Sequence[str],
    teacher: str | None,
) -> Grid:
    """Loads a grid; the arguments are those of `registry.load` and `parse_seeds`.

    Raises:
        UserError: A recipe or an option is invalid.
    """
    numbers = parse_seeds(seeds)
    return *registry.load(envs, agents, protocol, overrides, teacher), numbers


def run_folders(grid: Grid, results: Path) -> list[Path]:
    """Run folders of a grid, sorted."""
    runs = sorted(itertools.product(*grid), key=lambda run: (run[0].name, run[1].name, run[2]))
    return [run_folder(results, task, spec.name, seed) for task, spec, seed in runs]


def told(failure: Failure) -> str:
    """One line that describes a failure."""
    names = ", ".join(f"{agent} seed {seed}" for agent, seed in failure.members)
    return f"failed: {failure.environment}: {names}: {one_line(failure.reason)}"


def train(
    grid: Grid,
    envs: str,
    device: torch.device,
    results: Path,
    resume_failed: bool = False,
    extras: Extras = NO_EXTRAS,
) -> list[Failure]:
    """Trains a grid on this machine, one environment after the other.

    Args:
        grid: Grid from `load`.
        envs: Names or paths of its environment recipes, separated by commas.
        device: Device of the updates.
        results: Folder of the results.
        resume_failed: Whether failed runs are resumed too; otherwise they start from step 0.
        extras: Optional outputs of the runs.

    Returns:
        The failures; all other members are complete.

    Raises:
        UserError: The grid cannot be trained; no run has started.
        Interrupted: A signal arrived; resumable runs have saved checkpoints.
    """
    prepared = plan.prepare(*grid, device, results)
    for job, recipe in zip(prepared, envs.split(","), strict=True):
        for line in plan.announce(job):
            print(line, flush=True)
        for line in plan.look_ahead(job, recipe, device, results, resume_failed):
            print(line, flush=True)
    failures: list[Failure] = []
    for job in prepared:
        if job.members:
            with progress.ProgressDisplay(job.task, job.members) as display:
                todo = job.task, job.members, device, results, display.update, display.say
                try:
                    failures += pool.execute(*todo, resume_failed, extras)
                except UserError as error:  # the other environments are trained all the same
                    who = job.task.name, names_of(job.members)
                    failures.append(Failure(*who, str(error), refused=True))
                except pool.Interrupted as stop:
                    raise pool.Interrupted(stop.number, [*failures, *stop.failures]) from None
    return failures
