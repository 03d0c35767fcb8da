"""Progress display: a bar per agent, or printed lines if there is no terminal."""

import time
from collections.abc import Sequence
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, ProgressColumn, TextColumn
from rich.progress import Progress as Bars
from rich.progress import Task as Bar
from rich.text import Text
from typing_extensions import override

from mujoco_sail.agents.base import Member
from mujoco_sail.recipes.task import Task
from mujoco_sail.system.durations import duration
from mujoco_sail.training.messages import Failure, Progress


class TimeLeftColumn(ProgressColumn):
    """Column with the remaining time of an agent."""

    max_refresh = 0.5  # seconds; without it the text flickers

    @override
    def render(self, task: Bar) -> Text:
        left = task.time_remaining
        return Text("" if left is None else f"{duration(left)} left", "progress.remaining")


class ProgressDisplay:
    """Progress display of all stacks of one environment.

    Args:
        task: Environment and protocol.
        members: All members to train.
    """

    def __init__(self, task: Task, members: Sequence[Member]) -> None:
        self.steps = {(m.spec.name, m.seed): 0 for m in members}
        # Step of each member in its first message; earlier steps were done by a previous process.
        self.first: dict[tuple[str, int], int] = {}
        # Agent -> step -> member -> evaluation return.
        self.returns: dict[str, dict[int, dict[tuple[str, int], float]]] = {}
        self.started = time.perf_counter()
        self.console = Console()
        self.bars = Bars(
            TextColumn(f"{task.name}  {{task.description:<12}}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("return {task.fields[latest]}  {task.fields[speed]:>6} steps/s"),
            TimeLeftColumn(),
            console=self.console,
            disable=not self.console.is_interactive,
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
        """Starts the display."""
        self.bars.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stops the display."""
        self.bars.stop()

    def update(self, news: Progress | Failure) -> None:
        """Processes the progress of one stack, or a failure."""
        if isinstance(news, Failure):
            for member in news.members:
                self.steps.pop(member, None)
                self.first.pop(member, None)
        else:
            for index, member in enumerate(news.members):
                self.first.setdefault(member, news.step)
                self.steps[member] = news.step
                if news.returns is not None:
                    steps = self.returns.setdefault(member[0], {})
                    steps.setdefault(news.step, {})[member] = news.returns[index]
        for name in dict.fromkeys(arm for arm, _ in news.members):
            if isinstance(news, Progress) and news.returns is not None:
                self._take_mean(name, news.step)
            self._show(name)

    def _take_mean(self, name: str, step: int) -> None:
        """Shows the mean return of an agent at a step, once all expected members have reported it.

        Members that have not started, or resumed from this step or a later one, are not expected.
        """
        returns = self.returns[name][step]
        begun = [(member, first) for member, first in self.first.items() if member[0] == name]
        if any(member not in returns and first < step for member, first in begun):
            return
        latest = f"{sum(returns.values()) / len(returns):.1f}"
        size = sum(arm == name for arm, _ in self.steps)
        if len(returns) < size:
            latest += f" ({len(returns)} of {size} members)"
        self.bars.update(self.arms[name], latest=f"{latest} at step {step}")
        # Without a terminal, print a line.
        if not self.console.is_interactive:
            elapsed = time.perf_counter() - self.started
            total = sum(self.steps.values())
            rate = max(total - sum(self.first.values()), 1) / elapsed
            left = (self.task.steps * len(self.steps) - total) / rate
            self.say(
                f"{self.task.name} {name}: step {step}/{self.task.steps}, return {latest}, "
                f"{rate:.0f} steps/s over all agents, {duration(left)} left"
            )

    def _show(self, name: str) -> None:
        """Updates the bar of an agent."""
        steps = [step for (arm, _), step in self.steps.items() if arm == name]
        new = sum(steps) - sum(step for (arm, _), step in self.first.items() if arm == name)
        elapsed = time.perf_counter() - self.started
        self.bars.update(
            self.arms[name],
            total=self.task.steps * len(steps),
            completed=sum(steps),
            speed=f"{new / elapsed:.0f}",
        )

    def say(self, text: str) -> None:
        """Prints a line above the bars."""
        if self.console.is_interactive:
            self.console.print(text, highlight=False, soft_wrap=True, markup=False)
        else:
            # In a notebook, rich would print HTML.
            print(text, file=self.console.file, flush=True)
