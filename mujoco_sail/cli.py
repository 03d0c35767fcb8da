"""Command line of mujoco-sail, a benchmark suite of preference-based reinforcement learning."""

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from mujoco_sail.analysis.defaults import BASELINE, MARGIN, check_margin
from mujoco_sail.labelling import command as labelling
from mujoco_sail.results import tracking
from mujoco_sail.speed import command as speed
from mujoco_sail.system import packages
from mujoco_sail.system.errors import UserError, one_line
from mujoco_sail.system.files import WriteError, location
from mujoco_sail.system.output import lasting_output
from mujoco_sail.theory import command as theory
from mujoco_sail.training.options import DEVICES


class Parser(argparse.ArgumentParser):
    """Argument parser whose error messages have one line."""

    def error(self, message: str) -> NoReturn:
        """Prints the message and exits with code 2."""
        self.exit(2, f"{self.prog}: {one_line(message)}\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command; a closed standard output does not interrupt it.

    Returns:
        Exit code: 0 for success, 1 if a run failed or the output could not be written, 2 for wrong
        usage or a file that could not be written, 128 + n after signal n.
    """
    # Set before PyTorch is imported, here and in workers. Otherwise idle threads spin on cores that
    # a compiled update needs, which then took 10 times as long with two threads on two cores.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    if arguments is None:  # called as a program, which draws only with Agg and SVG
        os.environ["MPLBACKEND"] = "agg"  # the one in the environment may not be installed
        logging.getLogger("matplotlib").setLevel(logging.ERROR)  # no warnings about matplotlibrc
    with lasting_output() as failed:
        code = _main(arguments)
    if failed:
        reason = failed[0].strerror
        print(f"mujoco-sail: standard output: cannot be written: {reason}", file=sys.stderr)
    return code or int(bool(failed))


def _main(arguments: Sequence[str] | None) -> int:
    args = _parser().parse_args(arguments)
    try:
        _check_working_folder()
        return int(args.command(args))
    except (UserError, WriteError) as error:
        print(f"mujoco-sail: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("mujoco-sail: interrupted", file=sys.stderr)
        return 130


def _check_working_folder() -> None:
    """Checks that the working folder exists; some libraries cannot be loaded without it.

    Raises:
        UserError: The working folder has been removed.
    """
    try:
        Path.cwd()
    except OSError as error:
        message = f"the working folder cannot be used: {error.strerror}; go to another one"
        raise UserError(message) from error


def _parser() -> Parser:
    parser = Parser(prog="mujoco-sail", description=__doc__, allow_abbrev=False)
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    one = commands.add_parser("list", help="list environments and agents")
    one.set_defaults(command=_list)

    _add_run(commands.add_parser("run", help="train agents on environments", allow_abbrev=False))

    one = commands.add_parser("table", help="compare the agents of a results folder")
    _add_results(one)
    one.add_argument("--format", default="md", choices=("md", "csv", "latex"))
    _add_comparison(one)
    one.add_argument(
        "--across",
        action="store_true",
        help="pool all environments, on scores from 0 (random) to 1 (sac)",
    )
    one.add_argument(
        "--teacher-report",
        type=location,
        metavar="FILE.toml",
        help="measure how reliable a person's answers are; write a teacher like it to this recipe",
    )
    one.set_defaults(command=_table)

    one = commands.add_parser("plot", help="draw the figures of a results folder")
    one.add_argument("figures", nargs="*", metavar="FIGURE", help="names or paths; all by default")
    _add_results(one)
    one.add_argument("--out", type=location, default=Path("plots"), help="default: %(default)s")
    one.set_defaults(command=_plot)

    one = commands.add_parser("report", help="write an HTML report of a results folder")
    _add_results(one)
    one.add_argument(
        "--out",
        type=location,
        default=Path("report.html"),
        metavar="FILE.html",
        help="default: %(default)s",
    )
    _add_comparison(one)
    one.set_defaults(command=_report)

    one = commands.add_parser("export", help="copy the trained policy of a run")
    one.add_argument("run", type=location, metavar="RUN_FOLDER", help="results/ENV/AGENT/seed_N")
    one.add_argument(
        "--out",
        type=location,
        metavar="PATH",
        help="default: ENV_AGENT_seed_N in the working folder",
    )
    one.set_defaults(command=_export)

    one = commands.add_parser("watch", help="record a video of an exported policy")
    one.add_argument("env", metavar="ENV", help="name or path of a recipe")
    one.add_argument("policy", type=location, metavar="POLICY", help="files written by export")
    one.add_argument("--out", type=location, required=True, metavar="CLIP.mp4")
    one.add_argument("--episodes", type=int, default=1, help="default: %(default)s")
    one.add_argument("--seed", type=int, default=0, help="default: %(default)s")
    one.add_argument(
        "--protocol", default="quick", help="paper, study or quick (default: %(default)s)"
    )
    one.set_defaults(command=_watch)

    one = commands.add_parser("label", help="serve the page on which a person answers")
    _add_results(one)
    labelling.add_arguments(one)
    one.set_defaults(command=labelling.main)

    one = commands.add_parser(
        "theory", help="check the theorems of SAIL-RevKL on small problems that can be enumerated"
    )
    theory.add_arguments(one)
    one.set_defaults(command=theory.main)

    one = commands.add_parser("speed", help="steps per second, beside Stable-Baselines3 and SBX")
    speed.add_arguments(one)
    one.set_defaults(command=speed.main)
    return parser


def _add_run(one: argparse.ArgumentParser) -> None:
    one.add_argument("--env", required=True, help="names or paths of recipes, separated by commas")
    one.add_argument(
        "--agents",
        default="sac,pebble,sail,sail_revkl",
        help="names or paths of recipes, separated by commas (default: %(default)s)",
    )
    one.add_argument(
        "--seeds",
        default="3",
        help="number of seeds, or a list such as 0,4,7 (default: %(default)s)",
    )
    one.add_argument(
        "--protocol", default="paper", help="paper, study or quick (default: %(default)s)"
    )
    one.add_argument(
        "--set",
        dest="overrides",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="env.KEY=VALUE or agent.NAME.KEY=VALUE; may be given many times",
    )
    one.add_argument("--teacher", help="teachers joined by +, such as noisy+skip")
    one.add_argument(
        "--device", default="auto", choices=DEVICES, help="auto: a GPU if there is one"
    )
    one.add_argument(
        "--resume",
        action="store_true",
        help="resume failed runs from their checkpoints too, like interrupted ones",
    )
    one.add_argument(
        "--cluster",
        metavar="ADDRESS",
        help="train on the Ray cluster at this address; auto: the cluster of this machine",
    )
    one.add_argument(
        "--keep-preferences",
        action="store_true",
        help="write every labelled pair of a complete run to its file preferences.h5",
    )
    one.add_argument(
        "--track",
        action="extend",
        type=tracking.parse,
        default=[],
        metavar="NAMES",
        help="log the runs with tensorboard, wandb or both, separated by commas",
    )
    _add_results(one)
    one.set_defaults(command=_run)


def _add_comparison(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--baseline",
        default=BASELINE,
        help="agent with which the others are compared (default: %(default)s)",
    )
    parser.add_argument(
        "--margin",
        type=float,
        default=MARGIN,
        help="largest difference that counts as equivalence, as a share of sac minus random "
        "(default: %(default)s)",
    )


def _add_results(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--results", type=location, default=Path("results"), help="folder (default: %(default)s)"
    )


# Libraries are imported where they are used, so that `--help` and usage errors are immediate.


def _list(args: argparse.Namespace) -> int:
    from mujoco_sail.recipes import listing  # noqa: PLC0415

    for line in listing.lines():
        print(line)
    return 0


def _run(args: argparse.Namespace) -> int:
    if args.cluster is not None:
        from mujoco_sail.cluster.command import run  # noqa: PLC0415
    else:
        from mujoco_sail.training.command import run  # noqa: PLC0415
    return run(args)


def _table(args: argparse.Namespace) -> int:
    from mujoco_sail.analysis import person, tables, tables_across  # noqa: PLC0415

    if args.teacher_report is not None:
        print(person.report(args.results, args.teacher_report))
        return 0
    check_margin(args.margin)
    table = tables_across.table if args.across else tables.table
    print(table(args.results, args.format, args.baseline, args.margin))
    return 0


def _say(line: str) -> None:
    print(f"mujoco-sail: {line}", file=sys.stderr)


def _plot(args: argparse.Namespace) -> int:
    from mujoco_sail.analysis.figures import drawing  # noqa: PLC0415

    for path in drawing.plot(args.figures, args.results, args.out, _say):
        print(path)
    return 0


def _report(args: argparse.Namespace) -> int:
    packages.load("jinja2", "report")
    from mujoco_sail.analysis import report  # noqa: PLC0415

    if args.out.suffix != ".html" or args.out.is_dir():
        raise UserError(f"--out {args.out}: expected a file that ends in .html")
    check_margin(args.margin)
    report.report(args.results, args.out, args.baseline, args.margin, _say)
    print(args.out)
    return 0


def _export(args: argparse.Namespace) -> int:
    from mujoco_sail import policies  # noqa: PLC0415

    for path in policies.export(args.run, args.out):
        print(path)
    return 0


def _watch(args: argparse.Namespace) -> int:
    packages.load("av", "watch")
    from mujoco_sail.policies.film import watch  # noqa: PLC0415

    return watch(args)
