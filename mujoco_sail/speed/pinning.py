"""Which cores the worker processes run on."""

import contextlib
import os

import psutil


def shares(processes: int) -> list[frozenset[int]]:
    """The cores of each of some processes that run at once.

    Returns:
        One core each if there are as many processes as cores, all cores for everyone otherwise;
        nothing where the system ties no process to cores, as macOS.
    """
    if not hasattr(os, "sched_getaffinity"):
        return [frozenset()] * processes
    cores = sorted(os.sched_getaffinity(0))
    if processes == len(cores):
        return [frozenset([core]) for core in cores]
    return [frozenset(cores)] * processes


def move(cores: frozenset[int]) -> None:
    """Moves this process with all its threads to cores; nothing leaves it where it is."""
    if not cores:
        return
    for thread in psutil.Process().threads():
        with contextlib.suppress(ProcessLookupError):  # it has ended
            os.sched_setaffinity(thread.id, cores)
