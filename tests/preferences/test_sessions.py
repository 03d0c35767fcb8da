"""Label sessions and their budget."""

from __future__ import annotations

import pytest
from helpers.runs import MakeRun, pebble

from mujoco_sail.training.messages import MembersFailed


def test_every_agent_uses_exactly_the_whole_budget(make_run: MakeRun) -> None:
    agent = pebble(make_run, agents="pebble,sail,sail_revkl")
    for files in agent.runner.files:
        lines = (files.folder / "feedback.csv").read_text().splitlines()[1:]
        assert len(lines) == 8
    with pytest.raises(RuntimeError, match="budget of 8 labels is spent"):
        agent.label_session(150)


def test_a_skipped_query_costs_no_label_and_is_counted_separately(make_run: MakeRun) -> None:
    agent = pebble(make_run, agents="pebble,sail", teacher="skip", reward_range=[-1.0, 0.2])
    skipping = agent.runner.feedback
    assert skipping.labels_used == 8
    for queries in skipping.queries:
        assert sum(query.label is not None for query in queries) == 8
    strict = pebble(
        make_run, teacher="skip", reward_range=[-1.0, 0.2], **{"oracle.skip": 1.01}
    ).runner.feedback.queries[0]
    assert sum(query.label is None for query in strict) > 0
    assert sum(query.label is not None for query in strict) == 8


def test_a_teacher_that_skips_everything_fails_the_member_with_a_reason(
    make_run: MakeRun,
) -> None:
    with pytest.raises(MembersFailed) as failed:
        pebble(make_run, teacher="skip", reward_range=[-100.0, 1.0], **{"oracle.skip": 50.0})
    assert list(failed.value.reasons) == [("pebble", 0)]
    assert "step 80: teacher 'skip' refused nearly all" in failed.value.reasons["pebble", 0]


def test_labels_agree_with_the_recorded_task_returns(make_run: MakeRun) -> None:
    agent = pebble(make_run)
    for query in agent.runner.feedback.queries[0]:
        assert query.label == float(query.return_1 > query.return_2)
