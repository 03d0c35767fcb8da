"""How an update is carried out: by PyTorch's own calls, or compiled by TorchInductor.

Eager, members go through an update in parts whose activations fit the cache, on CUDA all at once.
Compiled, each member goes through it alone: a call costs little then, and one program serves a
stack of any size, so that no result depends on it.
"""

import hashlib
import json
import os
import shutil
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import asdict
from functools import cache, partial
from pathlib import Path
from typing import Any, Literal

import torch
from platformdirs import user_cache_path
from torch import Tensor
from torch.utils import _pytree as pytree

from mujoco_sail.core.passes import cache_parts
from mujoco_sail.core.replay_buffer import row_width
from mujoco_sail.core.update import CRITICS, LOGGED, Constants, SACState, update
from mujoco_sail.system.errors import UserError
from mujoco_sail.system.machine import processor

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
            else compiled(constants, part, batch_size, say)
            for part in map(learner.part, self.parts)
        ]

    @torch.no_grad()
    def __call__(self, rows: Tensor, uniform: Tensor, tau: Tensor, logged: Tensor) -> None:
        """Updates all members; see `update`, with M for m."""
        for call, part in zip(self._calls, self.parts, strict=True):
            call(rows[part], uniform[part], tau, logged[part])


def has_compiler() -> bool:
    """Whether there is a C++ compiler for TorchInductor."""
    return shutil.which(os.environ.get("CXX", "g++")) is not None


def compiled(
    constants: Constants, learner: SACState, batch_size: int, say: Callable[[str], None]
) -> Callable[..., None]:
    """The update of these members, from the cache or compiled now.

    Returns:
        `update` without its first two arguments.

    Raises:
        UserError: The compiler failed, or the cache cannot be used.
    """
    from filelock import FileLock  # noqa: PLC0415 (importing it warns where there is no fcntl)

    path = package_path(constants, learner, batch_size)
    try:
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(path.with_suffix(".lock")):
                if not path.exists():  # another process may have compiled it meanwhile
                    say("compiling the update, some 20 seconds; later runs find it in the cache")
                    _compile(constants, learner, batch_size, path)
        run = _load(path)
    except Exception as error:
        reason = str(error).strip().partition("\n")[0]
        raise UserError(
            f"no compiled update at {path} ({type(error).__name__}: {reason});",
            "set XDG_CACHE_HOME to another folder, or use --set env.engine=eager",
        ) from error
    state = _tensors(learner)

    def call(rows: Tensor, uniform: Tensor, tau: Tensor, logged: Tensor) -> None:
        # The moments of units that died decay to numbers that a processor is slow with.
        torch.set_flush_denormal(True)
        try:
            run([*state, rows, uniform, tau, logged])
        finally:
            torch.set_flush_denormal(False)

    return call


def package_path(constants: Constants, learner: SACState, batch_size: int) -> Path:
    """Where the compiled update lies, or will."""
    folder = user_cache_path("mujoco-sail")
    tensors = [(str(t.dtype), *t.shape, *t.stride()) for t in _tensors(learner)]
    about = [asdict(constants), batch_size, tensors, *_surroundings(SOURCES)]
    digest = hashlib.sha256(json.dumps(about).encode()).hexdigest()
    return folder / f"update-{digest[:32]}.pt2"


@cache
def _surroundings(sources: Path) -> list[str]:
    """What a compiled update depends on besides its sizes: library, processor, program."""
    return [
        torch.__version__,
        processor(),
        torch.backends.cpu.get_cpu_capability(),
        *[path.read_text(encoding="utf-8") for path in sorted(sources.glob("*.py"))],
    ]


def _tensors(learner: SACState) -> list[Tensor]:
    return [leaf for leaf in pytree.tree_leaves(learner) if leaf is not None]


def _compile(constants: Constants, learner: SACState, batch_size: int, path: Path) -> None:
    """Compiles the update into a package."""
    like, sizes = learner.target[0], (constants.observation_size, constants.action_size)
    example = (
        # Copies: views of one memory could not be told apart.
        *[t.new_empty_strided(t.shape, t.stride()).zero_() for t in _tensors(learner)],
        like.new_zeros(1, batch_size, row_width(*sizes)),
        like.new_zeros(1, batch_size, 2 * constants.action_size),
        like.new_zeros(()),
        like.new_zeros(1, len(LOGGED)),
    )
    with torch.no_grad(), warnings.catch_warnings(), tempfile.TemporaryDirectory() as scratch:
        warnings.simplefilter("ignore")
        program = torch.export.export(_Update(constants, learner), example, strict=False)
        package = torch._inductor.aoti_compile_and_package(
            program,
            package_path=str(Path(scratch, path.name)),
            # Threads of its own would share a loop's numbers differently on every machine.
            inductor_configs={"cpp.threads": 1},
        )
        staged = path.with_suffix(f".{os.getpid()}")
        shutil.copyfile(package, staged)
        os.replace(staged, path)


class _Update(torch.nn.Module):
    """`update` as what can be exported: a module of tensors."""

    def __init__(self, constants: Constants, learner: SACState) -> None:
        super().__init__()
        self.constants, self.spec = constants, pytree.tree_structure(learner)
        self.absent = [leaf is None for leaf in pytree.tree_leaves(learner)]

    def forward(self, *tensors: Tensor) -> None:
        given = iter(tensors)
        leaves = [None if absent else next(given) for absent in self.absent]
        update(self.constants, pytree.tree_unflatten(leaves, self.spec), *given)


@cache
def _load(path: Path) -> Callable[..., Any]:
    """The package's program, loaded once in a process."""
    run: Callable[..., Any] = torch._inductor.aoti_load_package(
        str(path), run_single_threaded=True
    ).loader.run
    return run
