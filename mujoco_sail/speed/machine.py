"""What a speed was measured on."""

import os
import platform
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from mujoco_sail.results.versions import versions
from mujoco_sail.results.write import commit
from mujoco_sail.speed.plan import Plan
from mujoco_sail.training.benchmark import available_cores


def describe(plan: Plan) -> dict[str, Any]:
    """The machine, the software and the options, for a TOML file."""
    machine = {
        "cpu": _cpu(),
        "cores": available_cores(),
        "memory_gib": round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30, 1),
        "system": platform.platform(terse=True),
        # Runnable processes of the last minute, before anything of ours: best near 0.
        "load_before": round(os.getloadavg()[0], 2),
    }
    if plan.device.type == "cuda":
        machine["gpu"] = torch.cuda.get_device_name(plan.device)
    return {
        "date": datetime.now(UTC).date(),
        "commit": commit(),
        "rounds": plan.rounds,
        "seconds": plan.seconds,
        "evaluation_every": plan.period,
        "evaluation_episodes": plan.task.evaluation_episodes,
        "machine": machine,
        "versions": versions(plan.task.backend),
    }


def _cpu() -> str:
    """Model of the processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return next(iter(models), platform.processor() or platform.machine())
