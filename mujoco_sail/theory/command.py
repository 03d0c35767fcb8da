"""`mujoco-sail theory`: test the paper's claims on exact problems."""

import argparse
from pathlib import Path

from mujoco_sail.system.errors import UserError
from mujoco_sail.system.files import check_writable, location

LEAST_SAMPLES = 1000  # per run, about 30 steps
LOW, HIGH = 1e-6, 1e6  # of the real numbers: far beyond them, floating-point numbers overflow
DEFAULT_GAMMAS = "0,0.003,0.01,0.03,0.1,0.3,1"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the options of the command; 0 is always added to the gammas."""
    add = parser.add_argument
    add("--prompts", type=int, default=3, help="default: %(default)s")
    add("--responses", type=int, default=6, help="responses per prompt (default: %(default)s)")
    add("--features", type=int, default=4, help="size of theta (default: %(default)s)")
    add("--beta", type=float, default=0.1, help="scale of the margin (default: %(default)s)")
    add("--gammas", default=DEFAULT_GAMMAS, help="weights of the anchor (default: %(default)s)")
    add("--radius", type=float, default=3.0, help="largest norm of theta (default: %(default)s)")
    add("--seeds", type=int, default=20, help="problems, each with its runs (default: %(default)s)")
    add("--samples", type=int, default=100_000, help="preferences of a run (default: %(default)s)")
    add("--out", type=location, default=Path("theory"), help="default: %(default)s")


def main(args: argparse.Namespace) -> int:
    """Writes six CSV files and two figures, and prints the claims and the truncation errors.

    Returns:
        0.

    Raises:
        UserError: An option is out of range, or the folder cannot be written.
    """
    gammas = check(args)
    # Imported here, so that help and errors need no slow imports.
    from rich.console import Console  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415

    from mujoco_sail.system.files import write_bytes  # noqa: PLC0415
    from mujoco_sail.theory import (  # noqa: PLC0415
        claims,
        experiment,
        figure,
        summary,
        truncation_figure,
    )

    plan = experiment.Experiment(
        args.prompts,
        args.responses,
        args.features,
        args.beta,
        gammas,
        args.radius,
        args.seeds,
        args.samples,
    )
    print(plan.describe(), flush=True)
    tables = experiment.run(plan, lambda line: print(line, flush=True))
    rates = {gamma: claims.rate_of(tables["convergence"], gamma) for gamma in gammas}

    console = Console(highlight=False)
    table = Table("claim", "measured", "holds", show_lines=True)
    for claim in claims.evaluate_claims(tables, rates):
        table.add_row(claim.claim, claim.measured, "yes" if claim.holds else "NO")
    console.print(table)
    print(claims.confidence(tables["bias"]))
    for rows in (
        summary.truncation_rows(tables["truncation"]),
        summary.picking_rows(tables["picking"]),
    ):
        table = Table(*rows[0])
        for row in rows[1:]:
            table.add_row(*row)
        console.print(table)

    files = {
        f"{name}.csv": rows.to_csv(index=False, float_format="%.12g").encode()
        for name, rows in tables.items()
    }
    figures = {
        "theory": figure.render(tables, rates, args.radius),
        "truncation": truncation_figure.render(tables["truncation"], tables["picking"]),
    }
    for name, images in figures.items():
        files |= {f"{name}.{suffix}": image for suffix, image in images.items()}
    for name, data in files.items():
        write_bytes(args.out / name, data)
        print(args.out / name)
    return 0


def check(args: argparse.Namespace) -> tuple[float, ...]:
    """Checks the options.

    Returns:
        The gammas, increasing from 0.

    Raises:
        UserError: An option is out of range, or the folder cannot be written.
    """
    most = args.prompts * (args.responses - 1)
    for name, least in (("prompts", 1), ("responses", 2), ("features", 1), ("seeds", 2)):
        _expect(name, getattr(args, name), getattr(args, name) >= least, f"at least {least}")
    _expect(
        "features",
        args.features,
        args.features <= most,
        f"at most prompts * (responses - 1) = {most}, for more are not identified",
    )
    _expect("samples", args.samples, args.samples >= LEAST_SAMPLES, f"at least {LEAST_SAMPLES}")
    for name in ("beta", "radius"):
        value = getattr(args, name)
        _expect(name, value, LOW <= value <= HIGH, "a number from 1e-6 to 1e6")
    try:
        gammas = {float(part) for part in args.gammas.split(",")}
    except ValueError:
        gammas = set()
    _expect(
        "gammas",
        args.gammas,
        any(gammas) and all(gamma == 0 or LOW <= gamma <= HIGH for gamma in gammas),
        "numbers joined by commas, each 0 or from 1e-6 to 1e6, one of them not 0",
    )
    _check_memory(args)
    check_writable(args.out, f"--out {args.out}")
    return tuple(sorted(gammas | {0.0}))


def _check_memory(args: argparse.Namespace) -> None:
    """Checks roughly that the problems fit into memory.

    Raises:
        UserError: They do not.
    """
    from mujoco_sail.system.machine import available_cores, free_memory  # noqa: PLC0415

    prompts, responses, features = args.prompts, args.responses, args.features
    # Per pair of responses, the preferences of five problems and the tensors at one point; per
    # feature of a response, those of all; and Hessians at a hundred points of five problems.
    numbers = prompts * responses * (24 * responses + 8 * features) + 2000 * features**2
    needed = 8 * numbers * min(available_cores(), -(-args.seeds // 5))
    if needed > (free := free_memory()):
        raise UserError(
            f"--prompts {prompts}, --responses {responses} and --features {features} need about "
            f"{needed / 2**30:.3g} GiB of memory; {free / 2**30:.3g} GiB are free"
        )


def _expect(name: str, got: object, valid: bool, expected: str) -> None:
    if not valid:
        raise UserError(f"--{name} is {got}; expected {expected}")
