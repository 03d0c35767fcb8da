"""How an update is carried out: by PyTorch's own calls, or compiled by TorchInductor.

Eager, members go through an update in parts whose activations fit the cache, on CUDA all at once.
Compiled, each member goes through it alone: a call costs little then, and one program serves a
stack of any size, so that no result depends on it.
"""

import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable
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

# What an update is made of: a compiled one is valid as long as no file of this folder changes.
SOURCES = Path(__file__).parent


class Updater:
    """Updates a stack, part by part.

    Args:
        constants: Numbers that all members share.
        learner: All members.
        batch_size: B.
        engine: What carries it out.
        say: Told when something has to be compiled.
        waiting: Called again and again meanwhile; it may raise to give up.

    Raises:
        UserError: The compiler failed, or its cache cannot be used.
    """

    def __init__(
        self,
        constants: Constants,
        learner: SACState,
        batch_size: int,
        engine: Engine,
        say: Callable[[str], None] = lambda _: None,
        waiting: Callable[[], None] = lambda: None,
    ) -> None:
        members, device = len(learner.temperature.steps), learner.temperature.steps.device
        widest = max(weight.shape[2] for weight in learner.critic.parameters[:-2:2])
        layer_bytes = batch_size * CRITICS * widest * learner.target[0].element_size()
        self.parts = (
            cache_parts(members, layer_bytes, device)
            if engine == "eager"
            else [slice(member, member + 1) for member in range(members)]
        )
        self._calls = [
            partial(update, constants, part)
            if engine == "eager"
            else compiled(constants, part, batch_size, say, waiting)
            for part in map(learner.part, self.parts)
        ]

    @torch.no_grad()
    def __call__(self, rows: Tensor, uniform: Tensor, tau: Tensor, logged: Tensor) -> None:
        """Updates all members; see `update`, with M for m."""
        for call, part in zip(self._calls, self.parts, strict=True):
            call(rows[part], uniform[part], tau, logged[part])


def compiled(
    constants: Constants,
    learner: SACState,
    batch_size: int,
    say: Callable[[str], None],
    waiting: Callable[[], None],
) -> Callable[..., None]:
    """The update of these members, from the cache or compiled now.

    Returns:
        `update` without its first two arguments.

    Raises:
        UserError: The compiler failed, or the cache cannot be used.
    """
    key = package_path(constants, learner, batch_size)

    def make() -> bytes:
        say("compiling the update; later runs find it in the cache")
        began = time.perf_counter()
        program = compilation.compile_update(constants, learner, batch_size, waiting)
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
    state = [*_tensors(learner), *inputs_of(constants, learner.target[0].dtype)]

    def call(rows: Tensor, uniform: Tensor, tau: Tensor, logged: Tensor) -> None:
        # The moments of units that died decay to numbers that a processor is slow with.
        torch.set_flush_denormal(True)
        try:
            run([*state, rows, uniform, tau, logged])
        finally:
            torch.set_flush_denormal(False)

    return call


def package_path(constants: Constants, learner: SACState, batch_size: int) -> Path:
    """Where the compiled update lies, or will, without the end of its name."""
    tensors = [(str(t.dtype), *t.shape, *t.stride()) for t in _tensors(learner)]
    structure = with_inputs(constants, [0.0] * len(inputs_of(constants, torch.float32)))
    about = [asdict(structure), batch_size, tensors, *_surroundings(SOURCES)]
    digest = hashlib.sha256(json.dumps(about).encode()).hexdigest()
    return compilation.cache_folder() / f"update-{digest[:32]}"


@cache
def _surroundings(sources: Path) -> list[str]:
    """What a compiled update depends on besides its sizes: library, processor, program."""
    return [
        torch.__version__,
        processor(),
        *instructions(),
        torch.backends.cpu.get_cpu_capability(),
        *[path.read_text(encoding="utf-8") for path in sorted(sources.glob("*.py"))],
    ]


def _tensors(learner: SACState) -> list[Tensor]:
    return [leaf for leaf in pytree.tree_leaves(learner) if leaf is not None]


@cache
def _load(path: Path) -> Callable[..., Any]:
    """The program of a file, loaded once in a process."""
    if not os.statvfs(path.parent).f_flag & getattr(os, "ST_NOEXEC", 0):
        return _run_of(path)
    with scratch_folder(compilation.build_folder()) as scratch:
        return _run_of(Path(shutil.copy(path, scratch)))


def _run_of(library: Path) -> Callable[..., Any]:
    run: Callable[..., Any] = torch._C._aoti.AOTIModelContainerRunnerCpu(str(library), 1).run
    return run
