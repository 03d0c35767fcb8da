"""What the machine offers this process, on whatever system."""

import ctypes
import math
import platform
import sys
from pathlib import Path

import psutil
import torch

from mujoco_sail.core import cgroups

# Options of glibc's `mallopt`.
TRIM_THRESHOLD, MMAP_MAX = -1, -4


def prepare_worker(threads: int) -> None:
    """Sets up a process that trains: its threads, and memory that it keeps.

    By default glibc gives every large tensor back to the system at once. The next one then
    consists of pages that the system has to find and to zero, one by one: in label sessions of
    forty members that took as long as computing them.

    Args:
        threads: PyTorch's.
    """
    torch.set_num_threads(threads)
    glibc = ctypes.CDLL(None) if sys.platform == "linux" else None
    if mallopt := getattr(glibc, "mallopt", None):  # Alpine's libc has none
        mallopt(MMAP_MAX, 0)
        mallopt(TRIM_THRESHOLD, -1)


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
