"""Command `mujoco-sail run --cluster`."""

import argparse

from mujoco_sail.cluster.connection import Cluster
from mujoco_sail.cluster.grid import execute
from mujoco_sail.recipes.task import HUMAN
from mujoco_sail.system.errors import UserError, one_line
from mujoco_sail.training import plan
from mujoco_sail.training.command import Grid, run_with
from mujoco_sail.training.messages import RESUMES, Failure, names_of
from mujoco_sail.training.options import Extras


def run(args: argparse.Namespace) -> int:
    """Trains a grid of environments, agents and seeds on a Ray cluster; see `run_with`."""
    return run_with(_on_cluster, args)


def _on_cluster(args: argparse.Namespace, grid: Grid, extras: Extras) -> list[Failure]:
    """Trains all environments of the grid at the same time."""
    if any(task.human for task in grid[0]):
        raise UserError(f"--cluster: with --teacher {HUMAN} runs wait for answers on one machine")
    cluster = Cluster(args.cluster, args.results)
    try:
        device = cluster.device(args.device)
        where = device, cluster.results
        prepared = plan.prepare(*grid, *where, here=False, obstacle=cluster.obstacle)
        for job in prepared:
            for line in plan.announce(job):
                _say(line)
        todo = [job for job in prepared if job.members]
        if not todo:
            return []
        try:
            return execute(cluster, todo, device, _say, args.resume, extras)
        except cluster.ray.exceptions.RayError as error:
            reason = one_line(f"the cluster was lost: {type(error).__name__}: {error}")
            return [
                Failure(job.task.name, names_of(job.members), f"{reason}; {RESUMES}")
                for job in todo
            ]
    finally:
        cluster.close()


def _say(line: str) -> None:
    print(line, flush=True)
