"""Work unit: what one worker process, or one task of a cluster, trains."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from mujoco_sail.agents.base import Member
from mujoco_sail.recipes.task import Task
from mujoco_sail.results import tracking
from mujoco_sail.results.write import run_folder, status_of
from mujoco_sail.system import packages


@dataclass(frozen=True)
class Extras:
    """Files that runs write beside their results; no result depends on them.

    Attributes:
        keep_preferences: Whether a complete run keeps its labelled pairs, `preferences.h5`.
        track: Trackers, some of `results.tracking.TRACKERS`.
    """

    keep_preferences: bool = False
    track: tuple[str, ...] = ()

    def check(self) -> None:
        """Checks that the packages that the options need are installed.

        Raises:
            UserError: A package is not installed.
        """
        tracking.check(self.track)
        if self.keep_preferences:
            packages.load("h5py", "--keep-preferences")


NO_EXTRAS = Extras()
DEVICES = ("auto", "cpu", "cuda")  # "auto" is CUDA where there is a GPU


@dataclass(frozen=True)
class WorkUnit:
    """Stacks of one environment that one worker trains.

    Attributes:
        task: Environment and protocol.
        stacks: They train one after the other.
        device: Where their updates run.
        results: Folder that the run folders lie in.
        extras: What the runs leave beside their own files.
    """

    task: Task
    stacks: Sequence[Sequence[Member]]
    device: torch.device
    results: Path
    extras: Extras = NO_EXTRAS

    @property
    def members(self) -> tuple[tuple[str, int], ...]:
        """Agent and seed of each."""
        return tuple((m.spec.name, m.seed) for stack in self.stacks for m in stack)

    def folder(self, member: Member) -> Path:
        """Run folder of a member."""
        return run_folder(self.results, self.task, member.spec.name, member.seed)

    def status(self, member: Member) -> str | None:
        """Status of a member's run, None if it has not begun; see `status_of`."""
        return status_of(self.folder(member), self.task, member.spec)

    @property
    def steps(self) -> int:
        """Member-steps of all of it."""
        return self.task.steps * len(self.members)
