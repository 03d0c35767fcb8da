"""Pin worker processes to cores."""

import contextlib
import os

import psutil


def shares(processes: int) -> list[frozenset[int]]:
    """Cores of each of several processes that run at once.

    Returns:
        One core per process if there are as many processes as cores, otherwise all cores for each.
        Empty sets if the system has no CPU affinity, as macOS.
    """
    if not hasattr(os, "sched_getaffinity"):
        return [frozenset()] * processes
    cores = sorted(os.sched_getaffinity(0))
    if processes == len(cores):
        return [frozenset([core]) for core in cores]
    return [frozenset(cores)] * processes


def move(cores: frozenset[int]) -> None:
    """Moves all threads of this process to some cores; an empty set changes nothing."""
    if not cores:
        return
    for thread in psutil.Process().threads():
        with contextlib.suppress(ProcessLookupError):  # the thread has ended
            os.sched_setaffinity(thread.id, cores)
