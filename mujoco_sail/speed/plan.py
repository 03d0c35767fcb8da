"""Settings of `mujoco-sail speed`, and their description with that of the machine."""

import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from typing import Any

import torch

from mujoco_sail.agents.base import AgentSpec
from mujoco_sail.recipes.task import Task
from mujoco_sail.results.versions import versions
from mujoco_sail.results.write import commit
from mujoco_sail.speed.peers import Peer
from mujoco_sail.system.machine import available_cores, load, processor, total_memory
from mujoco_sail.training.pool import max_workers


@dataclass(frozen=True)
class Plan:
    """Agents, peers and sizes of the comparison.

    Attributes:
        task: Task that neither ends nor has an evaluation while it is timed.
        specs: Agents of this package.
        peers: Configurations of other libraries' SAC, by the library's short name.
        members: Numbers M of members.
        device: Device of the updates.
        rounds: Number of rounds; each measurement is taken once per round.
        seconds: Duration of each timing in seconds.
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
        """Maximum number of our worker processes: one per core, or one on CUDA."""
        return max_workers(self.device)

    def at_once(self, members: int) -> int:
        """Number of processes for M members."""
        return min(members, self.processes)

    def peers_at_once(self, members: int) -> int:
        """Number of a peer's processes for M members: one per core; on CUDA they share the GPU."""
        return min(members, available_cores())


def describe(plan: Plan) -> dict[str, Any]:
    """Describes machine, software and options as a TOML table."""
    machine = {
        "cpu": processor(),
        "cores": available_cores(),
        "memory_gib": round(total_memory() / 2**30, 1),
        "system": platform.platform(terse=True),
        # Load average before the measurement; it should be near 0.
        "load_before": round(load(), 2),
    }
    if plan.device.type == "cuda":
        machine["gpu"] = torch.cuda.get_device_name(plan.device)
    software = versions(plan.task.backend)
    if "sbx" in plan.peers:
        software |= {"sbx_rl": metadata.version("sbx-rl"), "jax": metadata.version("jax")}
    return {
        "date": datetime.now(UTC).date(),
        "commit": commit(),
        "rounds": plan.rounds,
        "seconds": plan.seconds,
        "evaluation_every": plan.period,
        "evaluation_episodes": plan.task.evaluation_episodes,
        "machine": machine,
        "versions": software,
    }
