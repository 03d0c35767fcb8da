"""The command line, `mujoco-sail`."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from mujoco_sail.files import folder
from mujoco_sail.settings import RecipeError, one_line
from mujoco_sail.theory import command as theory

BASELINE = "pebble"


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one line."""

    def error(self, message: str) -> NoReturn:
        """Ends with exit code 2."""
        self.exit(2, f"{self.prog}: {one_line(message)}\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command.

    Returns:
        0 done, 1 a run failed, 2 wrong usage, 130 interrupted.
    """
    args = _parser().parse_args(arguments)
    try:
        return int(args.command(args))
    except RecipeError as error:
        print(f"mujoco-sail: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("mujoco-sail: interrupted", file=sys.stderr)
        return 130


def _parser() -> Parser:
    parser = Parser(prog="mujoco-sail", description=__doc__, allow_abbrev=False)
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    one = commands.add_parser("list", help="environments and agents, with one line each")
    one.set_defaults(command=_list)

    one = commands.add_parser("run", help="train agents on environments", allow_abbrev=False)
    one.add_argument("--env", required=True, help="names or paths of recipes, joined by commas")
    one.add_argument(
        "--agents",
        default="sac,pebble,sail,sail_revkl",
        help="names or paths of recipes, joined by commas (default: %(default)s)",
    )
    one.add_argument(
        "--seeds", default="3", help="how many, or a list such as 0,4,7 (default: %(default)s)"
    )
    one.add_argument("--protocol", default="paper", help="paper or quick (default: %(default)s)")
    one.add_argument(
        "--set",
        dest="overrides",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="env.KEY=VALUE or agent.NAME.KEY=VALUE; may be given many times",
    )
    one.add_argument("--teacher", help="teachers joined by +, such as noisy+skip")
    one.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"))
    _add_results(one)
    one.set_defaults(command=_run)

    one = commands.add_parser("table", help="compare the agents of a results folder")
    _add_results(one)
    one.add_argument("--format", default="md", choices=("md", "csv", "latex"))
    one.add_argument("--baseline", default=BASELINE, help="agent that effects are measured against")
    one.set_defaults(command=_table)

    one = commands.add_parser("plot", help="draw the figures of a results folder")
    one.add_argument("figures", nargs="*", metavar="FIGURE", help="names or paths; all by default")
    _add_results(one)
    one.add_argument("--out", type=folder, default=Path("plots"), help="default: %(default)s")
    one.set_defaults(command=_plot)

    one = commands.add_parser("theory", help="check the paper's claims on an exact problem")
    theory.add_arguments(one)
    one.set_defaults(command=theory.main)
    return parser


def _add_results(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--results", type=folder, default=Path("results"), help="default: %(default)s"
    )


# Libraries are imported where they are used: `--help` and mistakes answer at once.


def _list(args: argparse.Namespace) -> int:
    from mujoco_sail import recipes  # noqa: PLC0415

    for kind, heading in recipes.HEADINGS.items():
        print(heading)
        for name in recipes.names(kind):
            print(f"  {name:<18} {recipes.title(kind, name)}")
    return 0


def _run(args: argparse.Namespace) -> int:
    from mujoco_sail import benchmark, progress, recipes  # noqa: PLC0415

    device = benchmark.choose_device(args.device)
    seeds = recipes.parse_seeds(args.seeds)
    tasks, entries = recipes.load(
        args.env, args.agents, args.protocol, args.overrides, args.teacher
    )
    plans = [(task, benchmark.unfinished(task, entries, seeds, args.results)) for task in tasks]
    benchmark.check_writable(args.results)
    failures = []
    for task, members in plans:
        done = len(entries) * len(seeds) - len(members)
        if done:
            print(f"{task.name}: {done} of {len(entries) * len(seeds)} runs are complete already")
        if members:
            if task.labels_in_reach < task.labels:
                print(
                    f"{task.name}: {task.steps} steps leave room for {task.labels_in_reach} of "
                    f"{task.labels} labels"
                )
            with progress.Board(task, members) as board:
                failures += benchmark.execute(task, members, device, args.results, board.update)
    for failure in failures:
        names = ", ".join(f"{agent} seed {seed}" for agent, seed in failure.members)
        print(f"mujoco-sail: failed: {names}: {one_line(failure.reason)}", file=sys.stderr)
    return 1 if failures else 0


def _table(args: argparse.Namespace) -> int:
    from mujoco_sail import tables  # noqa: PLC0415

    print(tables.table(args.results, args.format, args.baseline))
    return 0


def _plot(args: argparse.Namespace) -> int:
    from mujoco_sail import figures  # noqa: PLC0415

    for path in figures.plot(args.figures, args.results, args.out):
        print(path)
    return 0
