"""Messages and exceptions of a stack in training."""

from collections.abc import Iterable
from dataclasses import dataclass

import torch

from mujoco_sail.agents.base import Member
from mujoco_sail.results.checkpoint import DamagedError

MACHINE_ERRORS = (
    OSError,  # a file cannot be written, among others
    DamagedError,
    MemoryError,
    torch.OutOfMemoryError,
    torch.AcceleratorError,
)
# Parts of the text of a RuntimeError, as which PyTorch and Python raise further ones.
MACHINE_TEXTS = (
    "DefaultCPUAllocator",
    "bad_alloc",
    "CUDA error",
    "CUDA driver error",
    "CUBLAS_STATUS",
    "can't start new thread",
)
RESUMES = "the same command resumes from the newest checkpoints"


def is_of_machine(error: Exception) -> bool:
    """Whether an error is the machine's, such as a lack of memory, and not that of members.

    The members have not failed then: the same command resumes them from their checkpoints.
    """
    told = isinstance(error, RuntimeError) and any(text in str(error) for text in MACHINE_TEXTS)
    return told or isinstance(error, MACHINE_ERRORS)


def names_of(members: Iterable[Member]) -> tuple[tuple[str, int], ...]:
    """Agent and seed of each member."""
    return tuple((member.spec.name, member.seed) for member in members)


@dataclass(frozen=True)
class Progress:
    """Progress of a stack.

    Attributes:
        members: Agent and seed of each member.
        step: Environment steps done.
        returns: Mean evaluation return of each member at this step; None without evaluation.
    """

    members: tuple[tuple[str, int], ...]
    step: int
    returns: tuple[float, ...] | None


@dataclass(frozen=True)
class Failure:
    """Failure of members.

    Attributes:
        environment: Name of their environment.
        members: Agent and seed of each failed member.
        reason: One or two lines.
        refused: Whether training was refused because of an error that the user can correct.
    """

    environment: str
    members: tuple[tuple[str, int], ...]
    reason: str
    refused: bool = False


@dataclass(frozen=True)
class UserMessage:
    """Text to show to the user immediately."""

    text: str


class Stopped(Exception):  # noqa: N818
    """Raised when a stack stops on request.

    If it is raised between two steps, a resumable agent has just written a checkpoint. If it is
    raised within a step (`Run.waiting`), the run resumes from its newest earlier checkpoint.
    """


@dataclass(eq=False)
class MembersFailed(Exception):  # noqa: N818
    """Raised when members failed; the other members can continue without them.

    Attributes:
        reasons: Reason of each failed member.
        survivors: Other members, each with a checkpoint at `step` unless that is 0.
        step: Environment steps done; 0 if the agent is not resumable and must start again.
    """

    reasons: dict[tuple[str, int], str]
    survivors: list[Member]
    step: int
