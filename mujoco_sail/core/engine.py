"""Execution of updates: eager, by PyTorch calls, or compiled, by TorchInductor.

An eager update processes the members in slices whose activations fit in the cache, on CUDA all at
once. A compiled update processes one member at a time: a call has little overhead, and one program
is valid for stacks of any size, so that results do not depend on the size. On CUDA the kernels of
an update are recorded once as a CUDA graph and then launched together.
"""

import hashlib
import json
import os
import shutil
import threading
import time
from collections.abc import Callable, Hashable, Sequence
from contextlib import suppress
from dataclasses import asdict
from functools import cache, partial
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from mujoco_sail.core import compilation, program_cache
from mujoco_sail.core.passes import cache_parts
from mujoco_sail.core.update import CRITICS, Constants, SACState, inputs_of, update, with_inputs
from mujoco_sail.system.durations import duration
from mujoco_sail.system.errors import UserError, one_line
from mujoco_sail.system.machine import instructions, processor
from mujoco_sail.system.scratch import scratch_folder

Engine = Literal["eager", "compiled"]

# Source folder of the update: a compiled update is valid as long as no file in it changes.
SOURCES = Path(__file__).parent
# Eager calls before a CUDA graph is recorded, in which libraries initialise and the allocator warms
# up.
WARM_UP = 3


class Updater:
    """Callable that updates a stack.

    Args:
        constants: Numbers that all members share.
        state: State of all members.
        batch_size: Batch size, B.
        engine: Eager or compiled.
        later: States of later phases of the training, whose updates are compiled meanwhile.
        say: Called with a line for the user when an update is compiled.
        waiting: Called repeatedly during the compilation; may raise an exception to cancel it.

    Raises:
        UserError: The compiler failed, or the cache cannot be used.
    """

    def __init__(
        self,
        constants: Constants,
        state: SACState,
        batch_size: int,
        engine: Engine,
        later: Sequence[SACState] = (),
        say: Callable[[str], None] = lambda _: None,
        waiting: Callable[[], None] = lambda: None,
    ) -> None:
        members, device = len(state.temperature.steps), state.temperature.steps.device
        widest = max(weight.shape[2] for weight in state.critic.parameters[:-2:2])
        layer_bytes = batch_size * CRITICS * widest * state.target[0].element_size()
        self.parts = (
            cache_parts(members, layer_bytes, device)
            if engine == "eager"
            else [slice(member, member + 1) for member in range(members)]
        )
        now = list(map(state.part, self.parts))
        if engine == "compiled" and later:
            ahead = [state.part(members) for state in later for members in self.parts]
            compile_ahead(constants, now, ahead, batch_size)
        self._calls = [
            partial(update, constants, part)
            if engine == "eager"
            else compiled(constants, part, batch_size, say, waiting)
            for part in now
        ]

    @torch.no_grad()
    def __call__(self, rows: Tensor, uniform: Tensor, tau: Tensor, logged: Tensor) -> None:
        """Updates all M members; the arguments are those of `update.update`."""
        for call, part in zip(self._calls, self.parts, strict=True):
            call(rows[part], uniform[part], tau, logged[part])


def compiled(
    constants: Constants,
    state: SACState,
    batch_size: int,
    say: Callable[[str], None],
    waiting: Callable[[], None],
) -> Callable[..., None]:
    """Loads the compiled update of these members from the cache, or compiles it.

    Returns:
        Function with the arguments of `update`, except for the first two.

    Raises:
        UserError: The compiler failed, or the cache cannot be used.
    """
    key = program_path(constants, state, batch_size)

    def make() -> bytes:
        say("compiling the update; later runs find it in the cache")
        began = time.perf_counter()
        program = compilation.compile_update(constants, state, batch_size, waiting)
        say(f"compiled in {duration(time.perf_counter() - began)}")
        return program

    try:
        run = _load(program_cache.find(key, make, say, waiting))
    except OSError as error:
        raise UserError(
            f"no compiled update at {key} ({type(error).__name__}: {one_line(error)});",
            "set XDG_CACHE_HOME to another folder, or use --set env.engine=eager",
        ) from error
    except (compilation.CompileError, RuntimeError) as error:
        raise UserError(
            f"no compiled update at {key} ({one_line(error)});",
            f"compiler: {os.environ.get('CXX', 'g++')}; see to it, or use --set env.engine=eager",
        ) from error
    inputs = [*_tensors(state), *inputs_of(constants, state.target[0].dtype)]

    def call(rows: Tensor, uniform: Tensor, tau: Tensor, logged: Tensor) -> None:
        # The moments of inactive units decay to denormal numbers, which are slow on processors.
        torch.set_flush_denormal(True)
        try:
            run([*inputs, rows, uniform, tau, logged])
        finally:
            torch.set_flush_denormal(False)

    return call


def compile_ahead(
    constants: Constants, now: list[SACState], later: list[SACState], batch_size: int
) -> None:
    """Calls `compiled` in threads, which end with their process, for new updates in `later`.

    Failures are ignored: the call that needs the update tries again, and reports them.
    """

    def work(state: SACState) -> None:
        with suppress(UserError):
            compiled(constants, state, batch_size, lambda _: None, lambda: None)

    current = {program_path(constants, state, batch_size) for state in now}
    updates = {program_path(constants, state, batch_size): state for state in later}
    for path, state in updates.items():
        if path not in current:
            threading.Thread(target=work, args=[state], daemon=True).start()


def program_path(constants: Constants, state: SACState, batch_size: int) -> Path:
    """Path of the compiled update in the cache, without checksum and suffix."""
    tensors = [(str(t.dtype), *t.shape, *t.stride()) for t in _tensors(state)]
    structure = with_inputs(constants, [0.0] * len(inputs_of(constants, torch.float32)))
    about = [asdict(structure), batch_size, tensors, *_surroundings(SOURCES)]
    digest = hashlib.sha256(json.dumps(about).encode()).hexdigest()
    return compilation.cache_folder() / f"update-{digest[:32]}"


@cache
def _surroundings(sources: Path) -> list[str]:
    """Everything else that a compiled update depends on: library, processor and source."""
    return [
        torch.__version__,
        processor(),
        *instructions(),
        torch.backends.cpu.get_cpu_capability(),
        *[path.read_text(encoding="utf-8") for path in sorted(sources.glob("*.py"))],
    ]


def _tensors(state: SACState) -> list[Tensor]:
    return [leaf for leaf in pytree.tree_leaves(state) if leaf is not None]


@cache
def _load(path: Path) -> Callable[..., Any]:
    """Loads the program of a file, once per process."""
    if not os.statvfs(path.parent).f_flag & getattr(os, "ST_NOEXEC", 0):
        return _run_of(path)
    with scratch_folder(compilation.build_folder()) as scratch:
        return _run_of(Path(shutil.copy(path, scratch)))


def _run_of(library: Path) -> Callable[..., Any]:
    run: Callable[..., Any] = torch._C._aoti.AOTIModelContainerRunnerCpu(str(library), 1).run
    return run


class GraphRecorder:
    """Runs a function as a CUDA graph, recorded once per key and then replayed.

    The function must read and write tensors at fixed addresses, draw no random numbers, and take
    the same path through its Python code in every call with the same key.
    """

    def __init__(self) -> None:
        self.calls: dict[Hashable, int] = {}
        self.recordings: dict[Hashable, torch.cuda.CUDAGraph] = {}

    def __call__(self, function: Callable[[], None], key: Hashable) -> None:
        """Runs the function, or replays its recording.

        Args:
            function: Called without arguments.
            key: Identifies the sequence of kernels that the function launches.
        """
        if key in self.recordings:
            self.recordings[key].replay()
            return
        self.calls[key] = self.calls.get(key, 0) + 1
        if self.calls[key] <= WARM_UP:
            self._aside(function)
        else:
            self.recordings[key] = self._record(function)
            self.recordings[key].replay()

    def _aside(self, function: Callable[[], None]) -> None:
        """Calls the function on a side stream, which CUDA requires before a recording."""
        stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            function()
        torch.cuda.current_stream().wait_stream(stream)

    def _record(self, function: Callable[[], None]) -> torch.cuda.CUDAGraph:
        """Records the function without executing its kernels."""
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            function()
        return graph
