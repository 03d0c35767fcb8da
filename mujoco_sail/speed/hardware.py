"""Description of the machine and software of a speed measurement."""

import platform
from datetime import UTC, datetime
from importlib import metadata
from typing import Any

import torch

from mujoco_sail.results.versions import versions
from mujoco_sail.results.write import commit
from mujoco_sail.speed.plan import Plan
from mujoco_sail.system.machine import available_cores, load, processor, total_memory


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
