"""Schedule of off-policy agents."""

from __future__ import annotations

from typing import Any

from helpers.runs import MakeRun

from mujoco_sail.agents.off_policy import Due


def test_actions_of_a_schedule_run_periodically_and_in_order(make_run: MakeRun) -> None:
    run = make_run([("sac", 0)])
    agent: Any = run.members[0].spec.agent(run)
    done: list[tuple[str, int]] = []
    agent.schedule = lambda: [
        Due(5, 3, lambda step: done.append(("late", step))),
        Due(0, 4, lambda step: done.append(("even", step))),
    ]
    for step in range(10):
        agent.learn_step(step)
    assert done == [("even", 0), ("even", 4), ("late", 5), ("late", 8), ("even", 8)]
