"""Progress display of a benchmark on a cluster."""

import time
from collections.abc import Sequence

from mujoco_sail.system.durations import duration
from mujoco_sail.training.messages import Progress
from mujoco_sail.training.work_unit import WorkUnit

EVERY = 10.0  # seconds between two lines


class Counts:
    """Counts of finished work units and environment steps.

    Args:
        units: All work units.
    """

    def __init__(self, units: Sequence[WorkUnit]) -> None:
        self.total = sum(unit.steps for unit in units)
        self.units = len(units)
        self.steps: dict[tuple[int, tuple[str, int]], int] = {}
        self.first: dict[tuple[int, tuple[str, int]], int] = {}  # done by a previous process
        self.done: set[int] = set()
        self.started = self.told = time.perf_counter()

    def take(self, number: int, news: Progress) -> None:
        """Processes the progress of a stack of a work unit."""
        for member in news.members:
            self.first.setdefault((number, member), news.step)
            self.steps[number, member] = news.step

    def end(self, number: int) -> None:
        """Marks a work unit as ended."""
        self.done.add(number)

    def line(self, nodes: int, waiting: int, running: int) -> str:
        """Line with the progress, or an empty text if the next line is not due yet."""
        now = time.perf_counter()
        if now - self.told < EVERY:
            return ""
        self.told = now
        steps, first = sum(self.steps.values()), sum(self.first.values())
        rate = (steps - first) / (now - self.started)
        left = f", {duration((self.total - steps) / rate)} left" if rate else ""
        return (
            f"cluster: {nodes} node{'s' if nodes != 1 else ''}; {len(self.done)} of {self.units} "
            f"tasks done, {running} running, {waiting} waiting; {rate:.0f} steps/s in all{left}"
        )
