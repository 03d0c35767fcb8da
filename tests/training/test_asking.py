"""Members that wait for a person make room for the others."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from helpers.people import trained_by, waiting
from helpers.runs import members_of
from helpers.tiny import CPU, tiny_task

from mujoco_sail.agents.base import Member
from mujoco_sail.preferences import answers
from mujoco_sail.training import asking, pool
from mujoco_sail.training.messages import Stopped
from mujoco_sail.training.work_unit import WorkUnit
from mujoco_sail.training.worker import train_stack


class Wait:
    """In the place of `Unanswered`: over after some looks."""

    def __init__(self, looks: int) -> None:
        self.looks = looks

    def is_over(self) -> bool:
        self.looks -= 1
        return self.looks < 0


def trained(waits: dict[str, list[int]], stopping: Any = lambda: False) -> list[str]:
    """Order in which stacks train that wait so often and so long."""
    log: list[str] = []

    def train(stack: Sequence[Any]) -> Any:
        (name,) = stack
        log.append(name)
        return Wait(waits[name].pop(0)) if waits[name] else None

    asking.in_turn([[name] for name in waits], train, stopping)
    return log


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "POLL", 0.0)
    monkeypatch.setattr(answers, "GRACE", 0.0)


def test_a_stack_that_waits_lets_the_others_go_on() -> None:
    assert trained({"a": [9], "b": [], "c": []}) == ["a", "b", "c", "a"]
    assert trained({"a": [9, 9], "b": [2], "c": []}) == ["a", "b", "c", "b", "a", "a"]


def test_a_worker_whose_stacks_all_wait_can_be_stopped() -> None:
    with pytest.raises(Stopped):
        trained({"a": [10**9], "b": [10**9]}, lambda: True)


def test_with_a_person_every_member_is_a_stack_of_its_own() -> None:
    members = members_of([("pebble", seed) for seed in range(5)])
    by_worker = pool.stacks_of_workers(members, 2)
    alone = asking.alone(tiny_task(teacher="human"), by_worker)
    assert [len(stacks) for stacks in alone] == [2, 3]
    assert all(len(stack) == 1 for stacks in alone for stack in stacks)
    assert asking.alone(tiny_task(), by_worker) == by_worker


def test_the_line_for_the_user_says_where_to_answer(tmp_path: Path) -> None:
    told: list[Any] = []
    unit = WorkUnit(tiny_task(teacher="human"), [members_of([("pebble", 0)])], CPU, tmp_path)
    wait = train_stack(unit, unit.stacks[0], told.append, lambda: False)
    assert wait is not None
    assert told[-1].text == (
        "half_cheetah: pebble seed 0, step 80: waits for 4 answers of a person; to answer: "
        f"mujoco-sail label --results {tmp_path}"
    )
    assert not wait.is_over()


def test_a_checkpoint_is_written_right_before_a_person_is_asked(tmp_path: Path) -> None:
    path = waiting(tmp_path)
    steps = [file.stem for file in (path.parents[1] / "checkpoints").glob("*.json")]
    assert steps == ["step_79"]


def test_an_agent_that_asks_nothing_trains_as_ever(tmp_path: Path) -> None:
    def refuse(_: Path) -> None:
        raise AssertionError("asked")

    run = trained_by(refuse, tmp_path, "sac")
    assert (run.files[0].folder / "policy.toml").exists()
    assert isinstance(run.members[0], Member)
