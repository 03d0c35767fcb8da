"""Progress display: the displayed return is a mean over members at the displayed step."""

from __future__ import annotations

import io

import pytest
from helpers.tiny import tiny_task
from rich.console import Console

from mujoco_sail.agents import registry
from mujoco_sail.agents.base import Member
from mujoco_sail.training import progress
from mujoco_sail.training.messages import Failure, Progress
from mujoco_sail.training.progress import ProgressDisplay

A, B, C = (("sac", seed) for seed in range(3))


class Display:
    """Progress display without a terminal, with captured output."""

    def __init__(self, seeds: int = 2) -> None:
        spec = registry.load_spec("sac", {})
        task = tiny_task(steps=3000, evaluation_every=1000)
        self.display = ProgressDisplay(task, [Member(spec, seed) for seed in range(seeds)])
        self.file = io.StringIO()
        self.display.console.file = self.file

    def tell(self, step: int, *members: tuple[str, int], returns: list[float] | None = None) -> str:
        """Step and return that are printed after a message."""
        found = None if returns is None else tuple(returns)
        return self.after(Progress(members, step, found))

    def after(self, news: Progress | Failure) -> str:
        self.file.truncate(0)
        self.display.update(news)
        said = self.file.getvalue().strip("\0")
        return "" if not said else said.split("sac: ")[1].split(", ")[0] + said.split(",")[1]


def test_members_that_train_one_after_the_other_are_averaged_at_equal_steps() -> None:
    display = Display()
    assert display.tell(1000, A, returns=[10]) == "step 1000/3000 return 10.0 (1 of 2 members)"
    assert display.tell(2000, A, returns=[20]) == "step 2000/3000 return 20.0 (1 of 2 members)"
    assert display.tell(3000, A, returns=[30]) == "step 3000/3000 return 30.0 (1 of 2 members)"
    assert display.tell(100, B) == ""
    assert display.tell(1000, B, returns=[0]) == "step 1000/3000 return 5.0"
    assert display.tell(2000, B, returns=[0]) == "step 2000/3000 return 10.0"


def test_parallel_stacks_give_one_line_after_the_last_evaluation() -> None:
    display = Display(3)
    assert display.tell(100, A, B) == ""
    assert display.tell(100, C) == ""
    assert display.tell(1000, A, B, returns=[1, 2]) == ""
    assert display.tell(1100, A, B) == ""
    assert display.tell(1000, C, returns=[6]) == "step 1000/3000 return 3.0"


def test_members_resumed_from_a_later_step_are_not_expected_before_it() -> None:
    display = Display()
    assert display.tell(2000, A) == ""
    assert display.tell(100, B) == ""
    assert display.tell(1000, B, returns=[4]) == "step 1000/3000 return 4.0 (1 of 2 members)"
    assert display.tell(2000, B, returns=[4]) == "step 2000/3000 return 4.0 (1 of 2 members)"
    assert display.tell(3000, A, returns=[8]) == ""
    assert display.tell(3000, B, returns=[4]) == "step 3000/3000 return 6.0"


def test_failed_members_are_not_expected() -> None:
    display = Display()
    display.tell(100, A, B)
    assert display.after(Failure("ant", (B,), "broken")) == ""
    assert display.tell(1000, A, returns=[7]) == "step 1000/3000 return 7.0"
    (bar,) = display.display.bars.tasks
    assert (bar.completed, bar.total) == (1000, 3000)


def test_a_bar_shows_the_step_of_its_return() -> None:
    display = Display()
    display.tell(1000, A, B, returns=[1, 2])
    display.tell(1500, A, B)
    (bar,) = display.display.bars.tasks
    assert bar.fields["latest"] == "1.5 at step 1000"


@pytest.mark.parametrize("term", ["dumb", "unknown"])
def test_a_terminal_without_cursor_movement_gets_lines(
    term: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment = {"TERM": term}
    made = lambda: Console(force_terminal=True, width=20, _environ=environment)  # noqa: E731
    monkeypatch.setattr(progress, "Console", made)
    assert Display().tell(1000, A, B, returns=[1, 2]) == "step 1000/3000 return 1.5"


def test_a_notebook_gets_plain_lines(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A notebook claims to support colours, but must not get the bars of a terminal."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setattr("rich.console._is_jupyter", lambda: True)
    with ProgressDisplay(tiny_task(), [Member(registry.load_spec("sac", {}), 0)]) as display:
        display.say("half_cheetah sac: [1/2]")
    assert capsys.readouterr().out == "half_cheetah sac: [1/2]\n"
