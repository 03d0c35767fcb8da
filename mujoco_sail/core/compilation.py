"""Compilation of an update, in a separate process.

The training process then keeps no memory of the compiler and can stop without waiting for it. The
compiler works in a scratch folder, which is removed afterwards.
"""

import itertools
import os
import pickle
import shlex
import shutil
import signal
import subprocess
import sys
import sysconfig
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from platformdirs import user_cache_path
from torch import Tensor
from torch.utils import _pytree as pytree

from mujoco_sail.core.replay_buffer import row_width
from mujoco_sail.core.update import (
    LOGGED,
    Constants,
    SACState,
    inputs_of,
    update,
    with_inputs,
)
from mujoco_sail.system.errors import UserError
from mujoco_sail.system.machine import ending
from mujoco_sail.system.scratch import scratch_folder

NEEDED = 64 * 2**20  # free bytes required; a compilation writes less
NO_HOME = "this user has no home folder to keep compiled updates in (set XDG_CACHE_HOME)"
LIBRARY, REASON = "update.so", "reason"  # output files of the process
POLL = 0.1  # seconds between two checks of the process


class CompileError(Exception):
    """Raised when an update cannot be compiled; the message is one line."""


def cache_folder() -> Path:
    """Cache folder of compiled updates; it may be deleted at any time.

    Raises:
        UserError: The user has no home folder.
    """
    try:
        folder = user_cache_path("mujoco-sail")
    except RuntimeError as error:
        raise UserError(NO_HOME) from error
    if not folder.is_absolute():  # older versions of platformdirs do not expand "~"
        raise UserError(NO_HOME)
    return folder


# --- requirements ---


def obstacle() -> str:
    """Reason why this machine cannot compile updates, to begin a line; empty if it can."""
    if compiler() is None:
        return "no C++ compiler was found (g++, or what CXX names)"
    if not _plain(sysconfig.get_config_var("LIBDIR") or ""):
        return f"Python lies in a folder whose path the compiler cannot use ({sys.base_prefix})"
    try:
        cache_folder()
        build_folder()
    except (UserError, CompileError) as error:
        return str(error)
    return ""


def compiler() -> list[str] | None:
    """Command of the C++ compiler as a list of words; None if there is none."""
    default = "clang++" if sys.platform == "darwin" else "g++"
    try:
        words = shlex.split(os.environ.get("CXX") or default)
    except ValueError:  # unbalanced quotation mark
        return None
    programs = [*words[:1], *(word for word in words if word.endswith("++"))]
    return words if programs and all(map(shutil.which, programs)) else None


def build_folder() -> Path:
    """Folder in which programs can be compiled and loaded.

    Raises:
        CompileError: There is no such folder.
    """
    reasons = []
    for folder in _folders():
        if not (reason := unfit(folder)):
            return folder
        reasons.append(f"{folder} {reason}")
    raise CompileError(f"no folder is fit for compiling ({'; '.join(reasons)}; set TMPDIR)")


def _folders() -> Iterator[Path]:
    """Candidate folders for compilation, in order of preference; the last one is created."""
    named = os.environ.get("TMPDIR")
    # Not from `tempfile`, which would silently skip a full folder.
    places = [Path(named).absolute()] if named else []
    yield from dict.fromkeys([*places, Path("/tmp"), Path("/var/tmp")])
    cache = cache_folder()
    with suppress(OSError):  # here, so that it is there when judged, but only if no other is fit
        cache.mkdir(parents=True, exist_ok=True)
    yield cache


def unfit(folder: Path) -> str:
    """Reason why programs cannot be compiled and loaded in a folder; empty if they can."""
    if not _plain(str(folder)):
        return "has a space or another special character in its path"
    try:
        about = os.statvfs(folder)
    except OSError as error:
        return f"cannot be used ({error.strerror})"
    if not os.access(folder, os.W_OK | os.X_OK):
        return "cannot be written"
    if about.f_flag & getattr(os, "ST_NOEXEC", 0):
        return "is mounted noexec"
    if about.f_bavail * about.f_frsize < NEEDED:
        return "is full"
    return ""


def _plain(path: str) -> bool:
    """Whether a path needs no quotes in a shell; PyTorch does not quote all of its paths."""
    return shlex.quote(path) == path


# --- the calling process ---


def compile_update(
    constants: Constants, state: SACState, batch_size: int, waiting: Callable[[], None]
) -> bytes:
    """Compiles the update to a shared library and returns its content.

    Args:
        constants: Numbers that all members share.
        state: State of the members; only shapes, strides and dtypes are used.
        batch_size: Batch size, B.
        waiting: Called repeatedly during the compilation; may raise an exception to cancel it.

    Raises:
        CompileError: The compiler failed.
    """
    like = pytree.tree_map(_without_numbers, state)
    request = pickle.dumps((constants, like, batch_size, torch.get_default_dtype()))
    with scratch_folder(build_folder()) as scratch:
        process = subprocess.Popen(
            [sys.executable, "-m", __name__],
            cwd=scratch,
            env=_environment(scratch),
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,  # messages of libraries
            start_new_session=True,
        )
        assert process.stdin is not None
        try:
            with process.stdin as pipe:
                pipe.write(request)
                pipe.flush()  # the pipe stays open; when it closes, the process ends
                while process.poll() is None:
                    waiting()
                    time.sleep(POLL)
        except BrokenPipeError:
            process.wait()
        finally:
            _end_group(process)
        if process.returncode == 0:
            return (scratch / LIBRARY).read_bytes()
        if (scratch / REASON).exists():
            raise CompileError((scratch / REASON).read_text(encoding="utf-8"))
    raise CompileError(f"the compiling process ended: {ending(process.returncode)}")


def _without_numbers(tensor: Tensor | None) -> Tensor | None:
    if tensor is None:
        return None
    return torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device="meta")


def _environment(scratch: Path) -> dict[str, str]:
    """Environment of the compiling process, which writes only to the scratch folder."""
    links = (scratch / f"path{number}" for number in itertools.count())
    paths = [str(Path(path).absolute()) for path in sys.path]
    for number, path in enumerate(paths):
        if not _plain(path):
            link = next(links)
            link.symlink_to(path)
            paths[number] = str(link)
    variables = {
        "PYTHONPATH": os.pathsep.join(paths),
        "TMPDIR": str(scratch),
        "LOGNAME": os.environ.get("LOGNAME", str(os.getuid())),  # a user may have no name
        "TORCHINDUCTOR_CACHE_DIR": str(scratch / "inductor"),
    }
    words = compiler()
    if words is not None and len(words) > 1:
        # PyTorch expects CXX to be one program, whose name tells which compiler it is.
        name = next((word for word in words if word.endswith("++")), words[-1])
        script = scratch / Path(name).name
        script.write_text(f'#!/bin/sh\nexec {shlex.join(words)} "$@"\n', encoding="utf-8")
        script.chmod(0o700)
        variables["CXX"] = str(script)
    return {**os.environ, **variables}


def _end_group(process: subprocess.Popen[bytes]) -> None:
    """Kills a process and the compilers that it has started."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


# --- the compiling process ---


def main() -> None:
    """Compiles the update that is described on standard input."""
    constants, state, batch_size, dtype = pickle.load(sys.stdin.buffer)
    threading.Thread(target=_end_with_the_pipe, daemon=True).start()
    torch.set_default_dtype(dtype)
    try:
        library = _compile(constants, state, batch_size)
    except Exception as error:
        reason = str(error).strip().partition("\n")[0]
        Path(REASON).write_text(f"{type(error).__name__}: {reason}", encoding="utf-8")
        raise
    os.replace(library, LIBRARY)


def _end_with_the_pipe() -> None:
    """Kills this process and its compilers when the calling process has ended."""
    os.read(sys.stdin.fileno(), 1)  # a buffered read would abort the interpreter at its exit
    os.killpg(0, signal.SIGKILL)


def _compile(constants: Constants, state: SACState, batch_size: int) -> str:
    """Compiles the update and returns the path of the library."""
    sizes = constants.observation_size, constants.action_size
    tensors = [t for t in pytree.tree_leaves(state) if t is not None]
    like = torch.empty((), dtype=tensors[0].dtype)
    example = (
        *[torch.empty_strided(t.shape, t.stride(), dtype=t.dtype).zero_() for t in tensors],
        *inputs_of(constants, like.dtype),
        like.new_zeros(1, batch_size, row_width(*sizes)),
        like.new_zeros(1, batch_size, 2 * constants.action_size),
        like.new_zeros(()),
        like.new_zeros(1, len(LOGGED)),
    )
    configuration: dict[str, Any] = {
        # With threads, loops would be divided differently on every machine.
        "cpp.threads": 1,
        # Whether the compiler knows the instructions of this processor shows when it compiles the
        # update; trials beforehand would take a quarter of the time.
        "cpp.vec_isa_ok": True,
        # Precompiled headers have hundreds of MiB and would be used only once.
        "cpp_cache_precompile_headers": False,
        "aot_inductor.precompile_headers": False,
    }
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.export.export(_Update(constants, state), example, strict=False)
        return str(torch._inductor.aot_compile(program.module(), example, options=configuration))


class _Update(torch.nn.Module):
    """Module that calls `update` with a flat list of tensors, for the export."""

    def __init__(self, constants: Constants, state: SACState) -> None:
        super().__init__()
        self.constants, self.spec = constants, pytree.tree_structure(state)
        self.numbers = len(inputs_of(constants, torch.float32))
        self.absent = [leaf is None for leaf in pytree.tree_leaves(state)]

    def forward(self, *tensors: Tensor) -> None:
        given = iter(tensors)
        leaves = [None if absent else next(given) for absent in self.absent]
        constants = with_inputs(self.constants, list(itertools.islice(given, self.numbers)))
        update(constants, pytree.tree_unflatten(leaves, self.spec), *given)


if __name__ == "__main__":
    main()
