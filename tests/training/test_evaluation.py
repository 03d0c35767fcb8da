"""Evaluation: returns and initial states."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from helpers.tiny import tiny_task

from mujoco_sail.training.evaluation import Evaluation


def test_returns_equal_those_of_environments_stepped_by_hand() -> None:
    """Two members with opposite constant actions."""
    task = tiny_task("reacher", episode_steps=20, evaluation_episodes=2, segment_steps=5)
    evaluation = Evaluation(task, [0, 0], torch.device("cpu"))

    def constant(observation: torch.Tensor) -> torch.Tensor:
        action = torch.ones(*observation.shape[:2], 2)
        action[1] = -1
        return action

    scores = evaluation(constant, 3)
    assert scores.returns.shape == (2, 2)
    envs = evaluation.envs
    envs.reset(3)
    by_hand = np.zeros(4)
    for _ in range(20):
        result = envs.step(np.repeat([[1.0, 1.0], [-1.0, -1.0]], 2, axis=0))
        by_hand += result.reward
    np.testing.assert_allclose(scores.returns.ravel(), by_hand)
    assert not np.allclose(scores.returns[0], scores.returns[1])


def test_initial_states_differ_between_evaluations_and_agree_for_equal_seeds() -> None:
    task = tiny_task("reacher", episode_steps=20, evaluation_episodes=2, segment_steps=5)
    evaluation = Evaluation(task, [0, 0, 1], torch.device("cpu"))
    evaluation.envs.reset(1)
    first = evaluation.envs.observation.copy().reshape(3, 2, -1)
    evaluation.envs.reset(2)
    second = evaluation.envs.observation.reshape(3, 2, -1)
    assert np.array_equal(first[0], first[1])
    for other in (first[2], first[0, ::-1], second[0]):
        assert not np.allclose(first[0], other)


def test_an_episode_that_has_ended_has_no_successor_while_others_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A crash in it would be a fault of a member that depends on its stack."""
    task = tiny_task("hopper", horizon="variable", episode_steps=100, evaluation_episodes=1)

    def still_and_falling(observation: torch.Tensor) -> torch.Tensor:
        action = torch.zeros(*observation.shape[:2], 3)
        action[-1] = 1
        return action

    lengths, returns = [], []
    for seeds in ([0], [1], [1, 0]):
        evaluation = Evaluation(task, seeds, torch.device("cpu"))
        backend: Any = evaluation.envs._backend
        counts = [0] * len(seeds)
        step = backend.step

        def counted(rows: Any, actions: Any, counts: Any = counts, step: Any = step) -> Any:
            for row in rows:
                counts[row] += 1
            return step(rows, actions)

        monkeypatch.setattr(backend, "step", counted)
        returns.append(evaluation(still_and_falling, 0).returns.ravel().tolist())
        lengths.append(counts)
    assert lengths[0] != lengths[1]
    assert lengths[2][1:] == lengths[0]
    assert returns[2][1:] == returns[0]
    assert lengths[2][0] != lengths[2][1]
    # Started again for the next evaluation.
    assert evaluation(still_and_falling, 1).returns.min() > 0
