"""What the machine offers this process, on whatever system."""

import math
import platform
from pathlib import Path

import psutil
import torch

from mujoco_sail.system import cgroups


def available_cores() -> int:
    """Cores that this process may use."""
    process = psutil.Process()
    # macOS ties no process to cores.
    tied = process.cpu_affinity() if hasattr(process, "cpu_affinity") else None
    cores = len(tied) if tied else psutil.cpu_count() or 1
    limit = cgroups.cpu_limit()
    return cores if math.isinf(limit) else max(1, min(cores, math.ceil(limit)))


def free_memory() -> int:
    """Bytes of main memory that this process and its children can have without swapping."""
    return int(min(psutil.virtual_memory().available, cgroups.memory_left()))


def total_memory() -> int:
    """Bytes of main memory that the machine has."""
    return int(psutil.virtual_memory().total)


def load() -> float:
    """Runnable processes, a mean over the last minute."""
    return float(psutil.getloadavg()[0])


def processor() -> str:
    """Model of the processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return next(iter(models), platform.processor() or platform.machine())


def synchronise(device: torch.device) -> None:
    """Waits for what was launched on a device."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
