"""What a speed was measured on."""

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
    """The machine, the software and the options, for a TOML file."""
    machine = {
        "cpu": processor(),
        "cores": available_cores(),
        "memory_gib": round(total_memory() / 2**30, 1),
        "system": platform.platform(terse=True),
        # Runnable processes of the last minute, before anything of ours: best near 0.
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
