"""Command `mujoco-sail label`."""

import argparse

from mujoco_sail.system import packages

PORT = 8642


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of the address."""
    parser.add_argument("--port", type=int, default=PORT, help="0: any (default: %(default)s)")
    parser.add_argument(
        "--host",
        default="127.0.0.1",
        help="address to listen on; 0.0.0.0 lets other machines in (default: %(default)s)",
    )


def main(args: argparse.Namespace) -> int:
    """Serves the page until it is interrupted."""
    for module in ("starlette", "uvicorn", "av"):
        packages.load(module, "label")
    from mujoco_sail.labelling.server import serve  # noqa: PLC0415 (of an extra)

    serve(args.results, args.host, args.port)
    return 0
