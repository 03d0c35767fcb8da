"""`mujoco-sail run` on this machine."""

import argparse
import sys
from collections.abc import Callable, Sequence

from mujoco_sail.agents import registry
from mujoco_sail.agents.base import AgentSpec
from mujoco_sail.environments.factory import disable_rendering
from mujoco_sail.recipes.load import parse_seeds
from mujoco_sail.recipes.task import Task
from mujoco_sail.results import tracking
from mujoco_sail.system.errors import UserError, one_line
from mujoco_sail.training import jobs, pool, progress
from mujoco_sail.training.extras import Extras
from mujoco_sail.training.messages import Failure

Grid = tuple[Sequence[Task], Sequence[AgentSpec], Sequence[int]]  # environments, agents, seeds
Train = Callable[[argparse.Namespace, Grid, Extras], list[Failure]]


def run(args: argparse.Namespace) -> int:
    """Trains a grid of environments, agents and seeds on this machine; see `run_with`."""
    return run_with(_here, args)


def run_with(train: Train, args: argparse.Namespace) -> int:
    """Trains a grid of environments, agents and seeds.

    Args:
        train: Trains it, and returns what failed.
        args: Options of the command line.

    Returns:
        0 if all is complete, 1 if a run failed, 2 if all failures are refusals, 128 + n after
        signal n.

    Raises:
        UserError: A recipe or an option is wrong; nothing has begun.
    """
    disable_rendering()
    extras = Extras(args.keep_preferences, tuple(dict.fromkeys(args.track)))
    tracking.check(extras.track)
    seeds = parse_seeds(args.seeds)
    grid = *registry.load(args.env, args.agents, args.protocol, args.overrides, args.teacher), seeds
    try:
        failures = train(args, grid, extras)
    except pool.Interrupted as stop:
        print("stopped; the same command goes on from here")
        return 128 + int(stop.args[0])
    for failure in failures:
        names = ", ".join(f"{agent} seed {seed}" for agent, seed in failure.members)
        print(f"mujoco-sail: failed: {names}: {one_line(failure.reason)}", file=sys.stderr)
    if failures:
        return 2 if all(failure.refused for failure in failures) else 1
    return 0


def _here(args: argparse.Namespace, grid: Grid, extras: Extras) -> list[Failure]:
    """One environment after the other."""
    device = pool.choose_device(args.device)
    prepared = jobs.prepare(*grid, device, args.results)
    for job, recipe in zip(prepared, args.env.split(","), strict=True):
        for line in jobs.announce(job):
            print(line, flush=True)
        for line in jobs.look_ahead(job, recipe, device, args.results):
            print(line, flush=True)
    failures = []
    for job in prepared:
        if job.members:
            with progress.ProgressDisplay(job.task, job.members) as display:
                todo = job.task, job.members, device, args.results, display.update, display.say
                try:
                    failures += pool.execute(*todo, args.resume, extras)
                except UserError as error:  # the other environments are trained all the same
                    refused = tuple((m.spec.name, m.seed) for m in job.members)
                    failures.append(Failure(refused, str(error), refused=True))
    return failures
