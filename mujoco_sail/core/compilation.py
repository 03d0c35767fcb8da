"""Compiles an update, in a process of its own.

So nothing of the compiler stays in a process that trains, a stop need not wait for it, and it works
in a folder that suits it and is removed afterwards.
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

NEEDED = 64 * 2**20  # bytes that a compilation writes, and some more
HOMELESS = "this user has no home folder to keep compiled updates in (set XDG_CACHE_HOME)"
LIBRARY, REASON = "update.so", "reason"  # files that the process leaves
PATIENCE = 0.1  # seconds between two looks at the process


class CompileError(Exception):
    """No update was compiled; the text says why in one line."""


def cache_folder() -> Path:
    """Where compiled updates lie; it may be deleted at any time.

    Raises:
        UserError: The user has no home folder.
    """
    try:
        folder = user_cache_path("mujoco-sail")
    except RuntimeError as error:
        raise UserError(HOMELESS) from error
    if not folder.is_absolute():  # older versions of platformdirs leave the "~" as it is
        raise UserError(HOMELESS)
    return folder


# --- what a machine needs for it ---


def obstacle() -> str:
    """Why this machine cannot compile updates, as the beginning of a line; empty if it can."""
    if compiler() is None:
        return "no C++ compiler was found (g++, or what CXX names)"
    if not _plain(sysconfig.get_config_var("LIBDIR") or ""):
        return f"Python lies in a folder that the compiler cannot be told ({sys.base_prefix})"
    try:
        cache_folder()
        build_folder()
    except (UserError, CompileError) as error:
        return str(error)
    return ""


def compiler() -> list[str] | None:
    """The words of the command of the C++ compiler; None if there is none."""
    default = "clang++" if sys.platform == "darwin" else "g++"
    try:
        words = shlex.split(os.environ.get("CXX") or default)
    except ValueError:  # a quotation mark without its twin
        return None
    programs = [*words[:1], *(word for word in words if word.endswith("++"))]
    return words if programs and all(map(shutil.which, programs)) else None


def build_folder() -> Path:
    """A folder that programs can be compiled in and loaded from.

    Raises:
        CompileError: There is none.
    """
    reasons = []
    for folder in _folders():
        if not (reason := unfit(folder)):
            return folder
        reasons.append(f"{folder} {reason}")
    raise CompileError(f"no folder is fit for compiling ({'; '.join(reasons)}; set TMPDIR)")


def _folders() -> Iterator[Path]:
    """Folders to compile in, the first that is fit is taken."""
    named = os.environ.get("TMPDIR")
    # Unlike `tempfile`, which would silently skip a folder that is full.
    places = [Path(named).absolute()] if named else []
    yield from dict.fromkeys([*places, Path("/tmp"), Path("/var/tmp"), cache_folder()])


def unfit(folder: Path) -> str:
    """Why no program can be compiled in a folder and loaded from it; empty if it can."""
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
    """Whether a path is one word of a command line; PyTorch does not quote all of its paths."""
    return shlex.quote(path) == path


# --- the process that wants a program ---


def compile_update(
    constants: Constants, learner: SACState, batch_size: int, waiting: Callable[[], None]
) -> bytes:
    """The update of a part as a shared library.

    Args:
        constants: Numbers.
        learner: The part; only shapes, strides and number formats of its tensors count.
        batch_size: B.
        waiting: Called again and again meanwhile; it may raise to give up.

    Raises:
        CompileError: The compiler failed.
    """
    like = pytree.tree_map(_without_numbers, learner)
    request = pickle.dumps((constants, like, batch_size, torch.get_default_dtype()))
    with scratch_folder(build_folder()) as scratch:
        process = subprocess.Popen(
            [sys.executable, "-m", __name__],
            cwd=scratch,
            env=_environment(scratch),
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,  # notes of libraries
            start_new_session=True,
        )
        assert process.stdin is not None
        try:
            with process.stdin as pipe:
                pipe.write(request)
                pipe.flush()  # the pipe stays open: the process ends when this one has ended
                while process.poll() is None:
                    waiting()
                    time.sleep(PATIENCE)
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
    """Variables of the compiling process: all that it writes lies in the scratch folder."""
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
        # PyTorch takes CXX for the name of one program, and looks in it which compiler it is.
        name = next((word for word in words if word.endswith("++")), words[-1])
        script = scratch / Path(name).name
        script.write_text(f'#!/bin/sh\nexec {shlex.join(words)} "$@"\n', encoding="utf-8")
        script.chmod(0o700)
        variables["CXX"] = str(script)
    return {**os.environ, **variables}


def _end_group(process: subprocess.Popen[bytes]) -> None:
    """Ends a process and the compilers that it has started."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


# --- the process that compiles ---


def main() -> None:
    """Compiles what standard input asks for."""
    constants, learner, batch_size, dtype = pickle.load(sys.stdin.buffer)
    threading.Thread(target=_end_with_the_pipe, daemon=True).start()
    torch.set_default_dtype(dtype)
    try:
        library = _compile(constants, learner, batch_size)
    except Exception as error:
        reason = str(error).strip().partition("\n")[0]
        Path(REASON).write_text(f"{type(error).__name__}: {reason}", encoding="utf-8")
        raise
    os.replace(library, LIBRARY)


def _end_with_the_pipe() -> None:
    """Ends this process and its compilers as soon as the one that wants the program has ended."""
    os.read(sys.stdin.fileno(), 1)  # a buffered reader would abort an interpreter that ends
    os.killpg(0, signal.SIGKILL)


def _compile(constants: Constants, learner: SACState, batch_size: int) -> str:
    """Compiles the update; returns the path of the library."""
    sizes = constants.observation_size, constants.action_size
    tensors = [t for t in pytree.tree_leaves(learner) if t is not None]
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
        # Threads of its own would share a loop's numbers differently on every machine.
        "cpp.threads": 1,
        # Of hundreds of MiB each, for one compilation.
        "cpp_cache_precompile_headers": False,
        "aot_inductor.precompile_headers": False,
    }
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.export.export(_Update(constants, learner), example, strict=False)
        return str(torch._inductor.aot_compile(program.module(), example, options=configuration))


class _Update(torch.nn.Module):
    """`update` as what can be exported: a module of tensors."""

    def __init__(self, constants: Constants, learner: SACState) -> None:
        super().__init__()
        self.constants, self.spec = constants, pytree.tree_structure(learner)
        self.numbers = len(inputs_of(constants, torch.float32))
        self.absent = [leaf is None for leaf in pytree.tree_leaves(learner)]

    def forward(self, *tensors: Tensor) -> None:
        given = iter(tensors)
        leaves = [None if absent else next(given) for absent in self.absent]
        constants = with_inputs(self.constants, list(itertools.islice(given, self.numbers)))
        update(constants, pytree.tree_unflatten(leaves, self.spec), *given)


if __name__ == "__main__":
    main()
