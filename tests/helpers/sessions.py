"""Newest label session of an agent, and its T2."""

from __future__ import annotations

from typing import Any

import pytest
from torch import Tensor

from mujoco_sail.agents.sampling_term import SamplingTerm
from mujoco_sail.preferences.sessions import Session


def newest_session(agent: Any) -> Session:
    """Session with the newest labels of the agent."""
    last = slice(-agent.task.labels_per_session, None)
    number = agent.runner.feedback.sessions
    return Session(number, agent.pairs.part(last), agent.labels[:, last])


def kept_terms(
    agent: Any, monkeypatch: pytest.MonkeyPatch
) -> tuple[list[SamplingTerm], list[Tensor]]:
    """Lists to which T2 and its weight, [M, E], of all further objectives are appended."""
    terms: list[SamplingTerm] = []
    weights: list[Tensor] = []
    weigh = agent.weigh

    def keeping(term: SamplingTerm, *rest: Any) -> Tensor:
        terms.append(term)
        weights.append(weigh(term, *rest))
        return weights[-1]

    monkeypatch.setattr(agent, "weigh", keeping)
    return terms, weights
