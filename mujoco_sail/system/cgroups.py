"""CPU and memory limits of Linux control groups (containers and batch jobs)."""

import math
from collections.abc import Iterator
from pathlib import Path

MOUNT = Path("/sys/fs/cgroup")
OWN = Path("/proc/self/cgroup")


def cpu_limit() -> float:
    """CPU limit of this process in processors, for example 2.5; infinite without a limit."""
    limits = [math.inf]
    for group in _groups("cpu"):
        in_two_files = _numbers(group / "cpu.cfs_quota_us") + _numbers(group / "cpu.cfs_period_us")
        for numbers in (_numbers(group / "cpu.max"), in_two_files):
            # Version 1 writes -1 for no limit.
            if len(numbers) == 2 and numbers[0] > 0 and numbers[1] > 0:
                limits.append(numbers[0] / numbers[1])
    return min(limits)


def memory_left() -> float:
    """Memory in bytes that this process may still use; infinite without a limit."""
    left = [math.inf]
    for group in _groups("memory"):
        for limit, usage, cache in (
            ("memory.max", "memory.current", "inactive_file"),
            ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
        ):
            numbers = _numbers(group / limit) + _numbers(group / usage)
            if len(numbers) == 2:
                # The kernel frees cached files before it refuses memory.
                left.append(numbers[0] - max(0, numbers[1] - _stat(group, cache)))
    return max(0, min(left))


def _groups(controller: str) -> Iterator[Path]:
    """Possible folders of this process's control group and its parents; all limits apply."""
    for line in _text(OWN).splitlines():
        _, names, path = line.split(":", 2)
        if not names:  # version 2
            mounts = [MOUNT, MOUNT / "unified"]
        elif controller in names.split(","):
            mounts = [MOUNT / controller, MOUNT / names]
        else:
            continue
        # A container may see the host's path although its own group is the root of the mount.
        parts = [part for part in path.split("/") if part not in ("", "..")]
        for mount in mounts:
            for depth in range(len(parts), -1, -1):
                yield mount.joinpath(*parts[:depth])


def _numbers(path: Path) -> list[float]:
    """Numbers in a file, infinite for "max"; an empty list if there is no such file."""
    try:
        return [math.inf if word == "max" else float(word) for word in _text(path).split()]
    except ValueError:
        return []


def _stat(group: Path, name: str) -> float:
    rows = (line.split() for line in _text(group / "memory.stat").splitlines())
    return next((float(value) for key, value in rows if key == name), 0.0)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError:
        return ""
