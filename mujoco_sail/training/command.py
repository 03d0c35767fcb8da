"""`mujoco-sail run`: on this machine, or on a cluster."""

import argparse
import sys
from collections.abc import Sequence

import torch

from mujoco_sail.agents import registry
from mujoco_sail.agents.base import Entry
from mujoco_sail.environments.factory import disable_rendering
from mujoco_sail.recipes.load import parse_seeds
from mujoco_sail.recipes.settings import RecipeError, one_line
from mujoco_sail.recipes.task import Task
from mujoco_sail.results import tracking
from mujoco_sail.training import benchmark, jobs, progress
from mujoco_sail.training.extras import Extras
from mujoco_sail.training.jobs import Job
from mujoco_sail.training.messages import Failure

Grid = tuple[Sequence[Task], Sequence[Entry], Sequence[int]]  # environments, agents, seeds


def run(args: argparse.Namespace) -> int:
    """Trains a grid of environments, agents and seeds.

    Returns:
        0 if all is complete, 1 if a run failed, 2 if all failures are refusals, 128 + n after
        signal n.

    Raises:
        RecipeError: A recipe or an option is wrong; nothing has begun.
    """
    disable_rendering()
    extras = Extras(args.keep_preferences, tuple(dict.fromkeys(args.track)))
    tracking.check(extras.track)
    device = None if args.cluster else benchmark.choose_device(args.device)
    seeds = parse_seeds(args.seeds)
    grid = *registry.load(args.env, args.agents, args.protocol, args.overrides, args.teacher), seeds
    try:
        if device is None:
            failures = _on_cluster(args, grid, extras)
        else:
            failures = _here(args, jobs.prepare(*grid, device, args.results), device, extras)
    except benchmark.Interrupted as stop:
        print("stopped; the same command goes on from here")
        return 128 + int(stop.args[0])
    for failure in failures:
        names = ", ".join(f"{agent} seed {seed}" for agent, seed in failure.members)
        print(f"mujoco-sail: failed: {names}: {one_line(failure.reason)}", file=sys.stderr)
    if failures:
        return 2 if all(failure.refused for failure in failures) else 1
    return 0


def _here(
    args: argparse.Namespace, prepared: Sequence[Job], device: torch.device, extras: Extras
) -> list[Failure]:
    """One environment after the other."""
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
                    failures += benchmark.execute(*todo, args.resume, extras)
                except RecipeError as error:  # the other environments are trained all the same
                    refused = tuple((m.entry.name, m.seed) for m in job.members)
                    failures.append(Failure(refused, str(error), refused=True))
    return failures


def _on_cluster(args: argparse.Namespace, grid: Grid, extras: Extras) -> list[Failure]:
    """All environments at once."""
    from mujoco_sail.training.cluster import Cluster  # noqa: PLC0415
    from mujoco_sail.training.grid import execute  # noqa: PLC0415

    cluster = Cluster(args.cluster, args.results)
    try:
        device = cluster.device(args.device)
        prepared = jobs.prepare(*grid, device, cluster.results, here=False)
        for job in prepared:
            for line in jobs.announce(job):
                print(line, flush=True)
        todo = [job for job in prepared if job.members]
        if not todo:
            return []
        return execute(cluster, todo, device, _say, args.resume, extras)
    finally:
        cluster.close()


def _say(line: str) -> None:
    print(line, flush=True)
