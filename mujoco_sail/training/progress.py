"""What a benchmark shows while it runs: a bar per arm, or lines where there is no terminal."""

import time
from collections.abc import Sequence
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, ProgressColumn, TextColumn
from rich.progress import Progress as Bars
from rich.progress import Task as Bar
from rich.text import Text

from mujoco_sail.agents.base import Member
from mujoco_sail.recipes.task import Task
from mujoco_sail.training.duration import duration
from mujoco_sail.training.run import Progress


class TimeLeftColumn(ProgressColumn):
    """How long an arm will take from now on."""

    max_refresh = 0.5  # seconds; without it the text flickers

    def render(self, task: Bar) -> Text:
        """See `ProgressColumn.render`."""
        left = task.time_remaining
        return Text("" if left is None else f"{duration(left)} left", "progress.remaining")


class ProgressDisplay:
    """Collects the progress of all stacks of one environment.

    Args:
        task: Environment and protocol.
        members: Everyone who trains.
    """

    def __init__(self, task: Task, members: Sequence[Member]) -> None:
        self.steps = {(m.entry.name, m.seed): 0 for m in members}
        # Where each member was when it was first heard of: not done by this process.
        self.first: dict[tuple[str, int], int] = {}
        self.returns: dict[tuple[str, int], float] = {}
        self.printed: dict[str, int] = {}
        self.started = time.perf_counter()
        self.console = Console()
        self.bars = Bars(
            TextColumn(f"{task.name}  {{task.description:<12}}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("return {task.fields[latest]:>7}  {task.fields[speed]:>6} steps/s"),
            TimeLeftColumn(),
            console=self.console,
            disable=not self.console.is_terminal,
        )
        self.task = task
        self.arms = {
            name: self.bars.add_task(
                name,
                total=task.steps * sum(arm == name for arm, _ in self.steps),
                latest="-",
                speed="-",
            )
            for name in dict.fromkeys(arm for arm, _ in self.steps)
        }

    def __enter__(self) -> "ProgressDisplay":
        """Starts drawing."""
        self.bars.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stops drawing."""
        self.bars.stop()

    def update(self, progress: Progress) -> None:
        """Takes in the progress of one stack."""
        for index, member in enumerate(progress.members):
            self.first.setdefault(member, progress.step)
            self.steps[member] = progress.step
            if progress.returns is not None:
                self.returns[member] = progress.returns[index]
        for name in dict.fromkeys(arm for arm, _ in progress.members):
            self._show(name)

    def _show(self, name: str) -> None:
        done = sum(steps for (arm, _), steps in self.steps.items() if arm == name)
        new = done - sum(step for (arm, _), step in self.first.items() if arm == name)
        values = [value for (arm, _), value in self.returns.items() if arm == name]
        latest = f"{sum(values) / len(values):.1f}" if values else "-"
        elapsed = time.perf_counter() - self.started
        self.bars.update(
            self.arms[name], completed=done, latest=latest, speed=f"{new / elapsed:.0f}"
        )
        # Without a terminal: a line whenever every member of the arm has a new evaluation.
        slowest = min(steps for (arm, _), steps in self.steps.items() if arm == name)
        evaluations = slowest // self.task.evaluation_every
        if not self.console.is_terminal and evaluations > self.printed.get(name, 0):
            self.printed[name] = evaluations
            total = sum(self.steps.values())
            rate = max(total - sum(self.first.values()), 1) / elapsed
            left = (self.task.steps * len(self.steps) - total) / rate
            self.say(
                f"{self.task.name} {name}: step {slowest}/{self.task.steps}, return {latest}, "
                f"{rate:.0f} steps/s over all arms, {duration(left)} left"
            )

    def say(self, text: str) -> None:
        """Prints a line above the bars."""
        self.console.print(text, highlight=False, soft_wrap=True, markup=False)
