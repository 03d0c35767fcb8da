"""Serve the page at an address of this machine, until interrupted."""

import os
import secrets
import socket
from contextlib import suppress
from pathlib import Path

import uvicorn

from mujoco_sail.labelling.app import application
from mujoco_sail.labelling.clips import ClipCache
from mujoco_sail.labelling.question_queue import QuestionQueue
from mujoco_sail.policies.film import choose_gl_backend
from mujoco_sail.system.errors import UserError, one_line

TOKEN = ".label_token"  # file in the results folder: the address stays when the server is restarted


def serve(results: Path, host: str, port: int) -> None:
    """Serves the page for all runs of a folder that wait, or will.

    Args:
        results: Folder of the results.
        host: Address to listen on.
        port: Port; 0 for any.

    Raises:
        UserError: Nothing can be drawn, the folder is not there or cannot be written, or the
            address cannot be used.
    """
    if not results.is_dir():
        raise UserError(f"--results {results}: no such folder; first start a run there")
    choose_gl_backend()
    token = read_token(results)
    cache = ClipCache()
    with _bound(host, port) as listening:
        print(f"http://{_reachable(*listening.getsockname()[:2])}/{token}/", flush=True)
        print("answer there; Ctrl+C ends the page, and no answer is lost", flush=True)
        config = uvicorn.Config(
            application(QuestionQueue(results, cache), token),
            log_level="error",
            access_log=False,
            server_header=False,
            limit_concurrency=100,
            timeout_graceful_shutdown=1,
        )
        try:
            uvicorn.Server(config).run(sockets=[listening])
        finally:
            cache.close()


def _reachable(address: str, port: int) -> str:
    """Address and port by which browsers reach a socket."""
    if address in ("0.0.0.0", "::"):  # all addresses of this machine
        address = socket.getfqdn()
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def read_token(results: Path) -> str:
    """The secret part of the page's address, made when it is first needed.

    Raises:
        UserError: It cannot be read or written.
    """
    path = results / TOKEN
    try:
        with suppress(FileExistsError):
            file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(file, "w") as writing:
                writing.write(secrets.token_hex(16))
        token = path.read_text(encoding="ascii")
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be used: {one_line(error)}") from error
    if len(token) != 32 or not token.isalnum():
        raise UserError(f"{path}: holds no token; remove it")
    return token


def _bound(host: str, port: int) -> socket.socket:
    """Socket that listens at an address.

    Raises:
        UserError: It cannot be used.
    """
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        listening = socket.socket(family, socket.SOCK_STREAM)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
        listening.listen()  # so that the printed address answers as soon as it is read
    except (OSError, OverflowError, UnicodeError) as error:  # of an empty label between dots
        raise UserError(f"--host {host} --port {port}: {one_line(error)}") from error
    return listening
