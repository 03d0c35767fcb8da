"""What a stack in training tells: how far it is, and how it ends."""

from dataclasses import dataclass

from mujoco_sail.agents.base import Member


@dataclass(frozen=True)
class Progress:
    """A step of a stack, for whoever watches.

    Attributes:
        step: Environment steps done.
        returns: Newest mean evaluation return of each member, if there was one.
    """

    members: tuple[tuple[str, int], ...]
    step: int
    returns: tuple[float, ...] | None


@dataclass(frozen=True)
class Failure:
    """Members that did not reach their end.

    Attributes:
        members: Which.
        reason: One or two lines.
        refused: Whether nothing was begun, for a reason that the user can mend.
    """

    members: tuple[tuple[str, int], ...]
    reason: str
    refused: bool = False


@dataclass(frozen=True)
class UserMessage:
    """Something that a user should know at once."""

    text: str


class Stopped(Exception):  # noqa: N818
    """The stack was asked to stop, and did, after a checkpoint if the agent can have one."""


@dataclass(eq=False)
class MembersFailed(Exception):  # noqa: N818
    """Members failed; the others can go on without them.

    Attributes:
        reasons: Per member that failed, why.
        survivors: The others; each has a checkpoint of `step`.
        step: Environment steps done; 0 if the agent has no checkpoints and must start over.
    """

    reasons: dict[tuple[str, int], str]
    survivors: list[Member]
    step: int
