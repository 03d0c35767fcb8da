"""`mujoco-sail speed`: compare the speed of this package, Stable-Baselines3 and SBX."""

import argparse
import dataclasses
import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from mujoco_sail.recipes.settings import nearest
from mujoco_sail.system import packages
from mujoco_sail.system.errors import UserError
from mujoco_sail.system.files import check_writable, location
from mujoco_sail.training.options import DEVICES

if TYPE_CHECKING:
    from mujoco_sail.agents.base import AgentSpec
    from mujoco_sail.recipes.task import Task
    from mujoco_sail.speed.plan import Plan

PEERS = ("sb3", "sbx")
ENDLESS = 10**9  # environment steps, far more than are taken here
CAPACITY = 50_000  # transitions in a replay buffer, enough for the timings with many members


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the options of the command."""
    add = parser.add_argument
    add("--env", default="walker_walk", help="name or path of a recipe (default: %(default)s)")
    add(
        "--agents",
        default="sac",
        help="agents of the suite, joined by commas (default: %(default)s)",
    )
    add(
        "--peers",
        default="sb3",
        help="to compare with, joined by commas: sb3, Stable-Baselines3; sbx, the same in JAX, "
        "which needs the extra 'peers' (default: %(default)s)",
    )
    add("--members", default="1,3,12", help="numbers M of members (default: %(default)s)")
    add("--width", type=int, default=256, help="hidden units (default: %(default)s)")
    add("--batch", type=int, default=256, help="transitions (default: %(default)s)")
    add(
        "--precision",
        choices=("float32", "tf32", "bfloat16"),
        default="float32",
        help="of the networks",
    )
    add(
        "--engine",
        choices=("compiled", "eager"),
        help="engine of the updates (default: the recipe's)",
    )
    add("--backend", help="simulator of the environments (default: the recipe's)")
    add("--device", default="auto", choices=DEVICES)
    add("--rounds", type=int, default=5, help="default: %(default)s")
    add("--seconds", type=float, default=2.5, help="of each timing (default: %(default)s)")
    add("--out", type=location, default=Path("results/speed"), help="default: %(default)s")


def main(args: argparse.Namespace) -> int:
    """Writes a CSV file and a description of the machine; prints a table and a summary.

    Returns:
        0, or 1 if a worker failed.

    Raises:
        UserError: An option is invalid, a package is missing, or the folder cannot be written.
        WriteError: The disk is full.
    """
    members, peers = check(args)
    packages.load("stable_baselines3", f"--peers {args.peers}: it")
    # Imported here, so that help and errors need no slow imports.
    import tomli_w  # noqa: PLC0415
    from rich.console import Console  # noqa: PLC0415

    from mujoco_sail.speed import pool, rounds, summary  # noqa: PLC0415
    from mujoco_sail.speed.plan import describe  # noqa: PLC0415
    from mujoco_sail.system.files import write_text  # noqa: PLC0415

    plan = make_plan(args, members, peers)
    task = plan.task
    path = args.out / f"{file_name(task, plan.device.type)}.csv"
    about, description = path.with_suffix(".toml"), tomli_w.dumps(describe(plan))
    check_writable(args.out, f"--out {args.out}")
    try:
        rates = rounds.measure(plan, lambda line: print(line, flush=True))
    except pool.WorkerError as error:
        print(f"mujoco-sail: failed: {error}", file=sys.stderr)
        return 1
    rows = summary.frame(plan, rates)
    write_text(path, rows.to_csv(index=False, float_format="%.6g"))
    write_text(about, description)
    Console(highlight=False).print(summary.render(plan, rows))
    print(path, about, *summary.lines(plan, rows), sep="\n")
    return 0


def file_name(task: "Task", device: str) -> str:
    """Name of the files of a comparison, of all options that change its rates."""
    sizes = f"{task.name}_width{task.hidden_units}_batch{task.batch_size}"
    backend = "" if task.backend == "gymnasium" else f"_{task.backend}"
    return f"{sizes}_{task.precision}_{task.engine}{backend}_{device}"


def check(args: argparse.Namespace) -> tuple[list[int], list[str]]:
    """Checks the options, before slow imports.

    Returns:
        The numbers of members, and the names of the peers.

    Raises:
        UserError: An option is out of range.
    """
    try:
        members = sorted({int(part) for part in args.members.split(",")})
    except ValueError:
        members = [0]
    if members[0] < 1:
        raise UserError(
            f"--members {args.members}: expected numbers >= 1 joined by commas, such as 1,3,12"
        )
    for name in ("width", "batch", "rounds"):
        if getattr(args, name) < 1:
            raise UserError(f"--{name} {getattr(args, name)}: expected at least 1")
    if not 0 < args.seconds < math.inf:
        raise UserError(f"--seconds {args.seconds}: expected a positive number")
    peers = list(dict.fromkeys(args.peers.split(",")))
    for name in peers:
        if name not in PEERS:
            raise UserError(f"--peers {args.peers}: unknown peer '{name}'; {nearest(name, PEERS)}")
    return members, peers


def make_plan(args: argparse.Namespace, members: list[int], names: list[str]) -> "Plan":
    """Makes the plan from recipes and options.

    The task is the paper's, except for the options and the schedule: preference-based agents have
    one label session, so that they are timed with their budget used up, as in most of a run.

    Raises:
        UserError: A recipe or an option is invalid, there is no such environment or device, or a
            peer is not installed.
    """
    from mujoco_sail.agents import registry  # noqa: PLC0415
    from mujoco_sail.agents.sac import SAC  # noqa: PLC0415
    from mujoco_sail.environments.factory import disable_rendering, space_sizes  # noqa: PLC0415
    from mujoco_sail.speed import peers  # noqa: PLC0415
    from mujoco_sail.speed.plan import Plan  # noqa: PLC0415
    from mujoco_sail.training.plan import (  # noqa: PLC0415
        check_precision,
        choose_device,
        choose_engine,
    )

    disable_rendering()
    device = choose_device(args.device)
    asked = {
        "hidden_units": args.width,
        "batch_size": args.batch,
        "precision": args.precision,
        "engine": args.engine,
        "backend": args.backend,
    }
    overrides = [f"env.{key}={value}" for key, value in asked.items() if value is not None]
    tasks, specs = registry.load(args.env, args.agents, "paper", overrides, None)
    if len(tasks) > 1:
        raise UserError(f"--env {args.env}: expected one environment")
    paper, engine = choose_engine(tasks[0], device)
    if engine:
        print(engine)
    check_precision(paper, device)
    space_sizes(paper)
    task = dataclasses.replace(
        paper,
        steps=ENDLESS,
        evaluation_every=ENDLESS,
        log_every=ENDLESS,
        checkpoint_minutes=math.inf,
        replay_capacity=min(paper.replay_capacity, CAPACITY),
        exploration_steps=0,
        labels=paper.labels_per_session,
        reference_after=paper.random_steps,
        reference_every=ENDLESS,
    )
    for spec in specs:
        if not issubclass(spec.agent, SAC):
            raise UserError(
                f"--agents {spec.name}: expected agents of the suite that extend SAC, as sac,sail"
            )
    return Plan(
        task,
        [_without_reset(spec) for spec in specs],
        peers.load(names, task, device),
        members,
        device,
        args.rounds,
        args.seconds,
        paper.evaluation_every,
    )


def _without_reset(spec: "AgentSpec") -> "AgentSpec":
    """Removes the updates that follow the first label session."""
    if not hasattr(spec.settings, "reset_updates"):
        return spec
    settings = dataclasses.replace(spec.settings, reset_updates=0)
    return dataclasses.replace(spec, settings=settings)
