"""An agent's newest label session, and T2 as it is taken there."""

from __future__ import annotations

from typing import Any

import pytest
from torch import Tensor

from mujoco_sail.agents.sampling_term import SamplingTerm
from mujoco_sail.preferences.sessions import Session


def newest_session(agent: Any) -> Session:
    """The session that the agent has fitted last, or another one with its labels."""
    last = slice(-agent.task.labels_per_session, None)
    number = agent.runner.feedback.sessions
    return Session(number, agent.pairs.part(last), agent.labels[:, last])


def kept_terms(
    agent: Any, monkeypatch: pytest.MonkeyPatch
) -> tuple[list[SamplingTerm], list[Tensor]]:
    """Lists that get T2 and its weight, [M, E], of every objective that the agent makes now on."""
    terms: list[SamplingTerm] = []
    weights: list[Tensor] = []
    weigh = agent.weigh

    def keeping(term: SamplingTerm, *rest: Any) -> Tensor:
        terms.append(term)
        weights.append(weigh(term, *rest))
        return weights[-1]

    monkeypatch.setattr(agent, "weigh", keeping)
    return terms, weights
