"""Work unit: the stacks that one worker process, or one Ray task, trains."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import torch

from mujoco_sail.agents.base import Member
from mujoco_sail.recipes.task import Task
from mujoco_sail.results.write import lock_of, run_folder, status_of
from mujoco_sail.training.messages import Failure, names_of
from mujoco_sail.training.options import NO_EXTRAS, Extras


@dataclass(frozen=True)
class WorkUnit:
    """Stacks of one environment that one worker trains.

    Attributes:
        task: Environment and protocol.
        stacks: Stacks, trained one after the other.
        device: Device of the updates.
        results: Folder of the results.
        extras: Optional outputs of the runs.
    """

    task: Task
    stacks: Sequence[Sequence[Member]]
    device: torch.device
    results: Path
    extras: Extras = NO_EXTRAS

    @property
    def members(self) -> tuple[tuple[str, int], ...]:
        """Agent and seed of each member."""
        return names_of(chain(*self.stacks))

    def folder(self, member: Member) -> Path:
        """Run folder of a member."""
        return run_folder(self.results, self.task, member.spec.name, member.seed)

    def status(self, member: Member) -> str | None:
        """Status of a member's run, None if it has not started; see `status_of`."""
        return status_of(self.folder(member), self.task, member.spec)

    def lock(self, member: Member) -> Path:
        """Lock file that the main process holds during the run of a member."""
        return lock_of(self.folder(member))

    def failed(self, told: Iterable[Failure], reason: str) -> list[Failure]:
        """Failure of members whose runs are not complete and who have none in `told`, if any."""
        before = {name for failure in self._own(told) for name in failure.members}
        left = [m for stack in self.stacks for m in stack if self.status(m) != "complete"]
        untold = tuple(name for name in names_of(left) if name not in before)
        return [Failure(self.task.name, untold, reason)] if untold else []

    def others(self, told: Sequence[Failure]) -> list[Failure]:
        """Failures of members of other units; for a unit that starts again."""
        own = self._own(told)
        return [failure for failure in told if failure not in own]

    def _own(self, told: Iterable[Failure]) -> list[Failure]:
        here = [failure for failure in told if failure.environment == self.task.name]
        return [failure for failure in here if {*self.members} & {*failure.members}]

    @property
    def steps(self) -> int:
        """Total environment steps of all members."""
        return self.task.steps * len(self.members)
