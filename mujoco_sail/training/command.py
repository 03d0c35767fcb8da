"""`mujoco-sail run` on this machine."""

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from mujoco_sail.agents import registry
from mujoco_sail.agents.base import AgentSpec
from mujoco_sail.environments.factory import disable_rendering
from mujoco_sail.recipes.load import parse_seeds
from mujoco_sail.recipes.task import Task
from mujoco_sail.system.errors import UserError, one_line
from mujoco_sail.training import plan, pool, progress
from mujoco_sail.training.messages import Failure
from mujoco_sail.training.options import NO_EXTRAS, Extras

Grid = tuple[Sequence[Task], Sequence[AgentSpec], Sequence[int]]  # environments, agents, seeds
Execute = Callable[[argparse.Namespace, Grid, Extras], list[Failure]]


def run(args: argparse.Namespace) -> int:
    """Trains a grid of environments, agents and seeds on this machine; see `run_with`."""
    return run_with(_here, args)


def run_with(execute: Execute, args: argparse.Namespace) -> int:
    """Trains a grid of environments, agents and seeds.

    Args:
        execute: Trains the grid and returns what failed.
        args: Options of the command line.

    Returns:
        0 if all is complete, 1 if a run failed, 2 if all failures are refusals, 128 + n after
        signal n.

    Raises:
        UserError: A recipe or an option is wrong; nothing has begun.
    """
    disable_rendering()
    extras = Extras(args.keep_preferences, tuple(dict.fromkeys(args.track)))
    extras.check()
    grid = load(args.env, args.agents, args.seeds, args.protocol, args.overrides, args.teacher)
    try:
        failures = execute(args, grid, extras)
    except pool.Interrupted as stop:
        print("stopped; the same command goes on from here")
        return 128 + int(stop.args[0])
    for failure in failures:
        print(f"mujoco-sail: {told(failure)}", file=sys.stderr)
    if failures:
        return 2 if all(failure.refused for failure in failures) else 1
    return 0


def _here(args: argparse.Namespace, grid: Grid, extras: Extras) -> list[Failure]:
    device = pool.choose_device(args.device)
    return train(grid, args.env, device, args.results, args.resume, extras)


def load(
    envs: str,
    agents: str,
    seeds: str,
    protocol: str,
    overrides: Sequence[str],
    teacher: str | None,
) -> Grid:
    """Loads a grid; arguments are those of `registry.load` and `parse_seeds`.

    Raises:
        UserError: A recipe or an option is wrong.
    """
    numbers = parse_seeds(seeds)
    return *registry.load(envs, agents, protocol, overrides, teacher), numbers


def run_folders(grid: Grid, results: Path) -> list[Path]:
    """The folders of a grid's runs, sorted."""
    tasks, specs, seeds = grid
    runs = sorted(
        (task.name, spec.name, seed) for task in tasks for spec in specs for seed in seeds
    )
    return [results / env / agent / f"seed_{seed}" for env, agent, seed in runs]


def told(failure: Failure) -> str:
    """One line about members that failed."""
    names = ", ".join(f"{agent} seed {seed}" for agent, seed in failure.members)
    return f"failed: {names}: {one_line(failure.reason)}"


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
        grid: See `load`.
        envs: What its environments were loaded from.
        device: Where the updates run.
        results: Folder that the run folders lie in.
        resume_failed: Whether runs that failed go on as well; otherwise they start over.
        extras: What the runs leave beside their own files.

    Returns:
        What failed; the other members are complete.

    Raises:
        UserError: Something of it cannot be done; nothing has begun.
        Interrupted: A signal came; the runs have saved what they could.
    """
    prepared = plan.prepare(*grid, device, results)
    for job, recipe in zip(prepared, envs.split(","), strict=True):
        for line in plan.announce(job):
            print(line, flush=True)
        for line in plan.look_ahead(job, recipe, device, results):
            print(line, flush=True)
    failures = []
    for job in prepared:
        if job.members:
            with progress.ProgressDisplay(job.task, job.members) as display:
                todo = job.task, job.members, device, results, display.update, display.say
                try:
                    failures += pool.execute(*todo, resume_failed, extras)
                except UserError as error:  # the other environments are trained all the same
                    refused = tuple((m.spec.name, m.seed) for m in job.members)
                    failures.append(Failure(refused, str(error), refused=True))
    return failures
