"""Processors and memory available to this process, on any operating system."""

import math
import platform
import signal
from collections.abc import Iterator
from pathlib import Path

import psutil
import torch

from mujoco_sail.system import cgroups


def available_cores() -> int:
    """Number of processor cores that this process may use."""
    process = psutil.Process()
    # macOS has no CPU affinity.
    tied = process.cpu_affinity() if hasattr(process, "cpu_affinity") else None
    cores = len(tied) if tied else psutil.cpu_count() or 1
    limit = cgroups.cpu_limit()
    return cores if math.isinf(limit) else max(1, min(cores, math.ceil(limit)))


def free_memory() -> int:
    """Main memory in bytes that this process and its children can use without swapping."""
    return int(min(psutil.virtual_memory().available, cgroups.memory_left()))


def total_memory() -> int:
    """Main memory of the machine in bytes."""
    return int(psutil.virtual_memory().total)


def load() -> float:
    """Load average: number of runnable processes, averaged over the last minute."""
    return float(psutil.getloadavg()[0])


def processor() -> str:
    """Model name of the processor."""
    return next(_said_of_processors("model name"), platform.processor() or platform.machine())


def instructions() -> list[str]:
    """Instruction sets of the processor, empty where the system does not list them."""
    return sorted(next(_said_of_processors("flags", "Features"), "").split())


def _said_of_processors(*names: str) -> Iterator[str]:
    """Values of the first processor's fields in Linux's `/proc/cpuinfo`."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    for line in lines:
        if line.startswith(names):
            yield line.partition(":")[2].strip()


def ending(code: int) -> str:
    """How a process ended: the name of the signal, or its exit code."""
    if code >= 0:
        return f"exit code {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"


def synchronise(device: torch.device) -> None:
    """Waits until all kernels launched on a device have finished."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
