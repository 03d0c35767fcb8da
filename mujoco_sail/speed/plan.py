"""What `mujoco-sail speed` compares, and how."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from mujoco_sail.agents.base import AgentSpec
from mujoco_sail.recipes.task import Task
from mujoco_sail.speed.peers import Peer
from mujoco_sail.system.machine import available_cores
from mujoco_sail.training.pool import max_workers


@dataclass(frozen=True)
class Plan:
    """Sides and sizes of the comparison.

    Attributes:
        task: One that comes neither to its end nor to an evaluation while it is timed.
        specs: Agents of our core.
        peers: Other libraries' SAC, in one way or several, by the library's short name.
        members: Numbers M of members.
        device: Where the updates run.
        rounds: How often everything is timed.
        seconds: How long each time.
        period: Environment steps between two evaluations of a real run.
    """

    task: Task
    specs: Sequence[AgentSpec]
    peers: Mapping[str, Sequence[Peer]]
    members: Sequence[int]
    device: torch.device
    rounds: int
    seconds: float
    period: int

    @property
    def processes(self) -> int:
        """Most worker processes of ours at once: one per core, or one on CUDA."""
        return max_workers(self.device)

    def at_once(self, members: int) -> int:
        """Processes that M members are spread over."""
        return min(members, self.processes)

    def peers_at_once(self, members: int) -> int:
        """Processes that a peer has beside M members: one per core; on CUDA they share it."""
        return min(members, available_cores())
