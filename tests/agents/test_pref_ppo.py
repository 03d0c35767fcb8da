"""PrefPPO: PPO on the learned reward, with PEBBLE's sessions."""

from __future__ import annotations

import pandas as pd
import pytest
import torch
from helpers.runs import MakeRun

from mujoco_sail.agents.pref_ppo import PrefPPO
from mujoco_sail.agents.preference_learner import PreferenceLearner
from mujoco_sail.core.entropy import state_entropy_reward
from mujoco_sail.training.run import Run

SMALL = {"pref_ppo": {"n_steps": 50, "batch_size": 25}}


def executed(run: Run) -> PrefPPO:
    """Trains and returns the agent."""
    made: list[PrefPPO] = []
    after = run.after_step

    def remember(step: int, agent: PrefPPO) -> None:
        made[:] = [agent]
        after(step, agent)

    run.after_step = remember  # type: ignore[method-assign, assignment]
    run.execute()
    return made[0]


def test_it_asks_at_the_steps_of_pebble_and_for_as_many_labels(
    make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, seen = [], []
    session = PreferenceLearner.label_session

    def remember(agent: PreferenceLearner, step: int) -> None:
        seen.append((step, agent.replay_buffer.written))
        session(agent, step)

    monkeypatch.setattr(PreferenceLearner, "label_session", remember)
    for name in ("pebble", "pref_ppo"):
        run = make_run([(name, 0)], settings=SMALL if name == "pref_ppo" else {})
        run.execute()
        queries = pd.read_csv(run.files[0].folder / "feedback.csv")
        asked.append(queries.groupby("step").size().to_dict())
    assert asked[0] == asked[1]
    assert asked[0]
    half = len(seen) // 2
    assert seen[:half] == seen[half:]  # with as many transitions stored


def test_both_the_policy_and_the_reward_are_updated(make_run: MakeRun) -> None:
    run = make_run([("pref_ppo", 0)], settings=SMALL)
    executed(run)
    training = pd.read_csv(run.files[0].folder / "training.csv")
    assert training["updates"].iloc[-1] >= 20
    assert training["reward_updates"].iloc[-1] > 0
    assert training["reward_accuracy"].notna().any()
    assert training["held_out_accuracy"].between(0, 1).any()


def test_transitions_have_the_state_entropy_then_the_learned_reward(make_run: MakeRun) -> None:
    run = make_run([("pref_ppo", 0)], settings=SMALL)
    agent = executed(run)
    visited, first = agent.replay_buffer, run.task.first_session - 1
    for at in (1, first - 1):  # a state is its own nearest neighbour
        seen = visited.observation[:, : at + 1]
        entropy = state_entropy_reward(seen[:, -1:], seen, agent.settings.neighbours)
        assert visited.reward[0, at] == pytest.approx(float(entropy), rel=1e-5)
    last = slice(run.task.steps - 1, run.task.steps)  # after the last fit
    learned = agent.reward_model.mean(visited.observation[:, last], visited.action[:, last])
    assert visited.reward[:, last] == pytest.approx(learned, rel=1e-5)
    assert not torch.allclose(visited.reward[:, last], visited.task_reward[:, last])


def test_stored_transitions_are_those_of_the_environment(make_run: MakeRun) -> None:
    """Episodes end by the time limit of 40 steps, which is no terminal state."""
    run = make_run([("pref_ppo", 0)], settings=SMALL)
    agent = executed(run)
    stored = agent.replay_buffer
    assert len(stored) == 150
    assert stored.query_window == run.task.query_window
    assert stored.episode_starts == [[0, 40, 80, 120]]
    follows = (stored.next_observation[0, :-1] == stored.observation[0, 1:]).all(-1)
    assert (~follows).nonzero().flatten().tolist() == [39, 79, 119]
    assert not torch.equal(stored.observation, stored.next_observation)
    assert not stored.terminated.any()


def test_the_algorithm_learns_from_the_stored_reward_and_never_from_the_task(
    make_run: MakeRun,
) -> None:
    agent = executed(make_run([("pref_ppo", 0)], settings=SMALL))
    rollout = agent.model.rollout_buffer  # type: ignore[attr-defined]
    newest = agent.replay_buffer.reward[0, agent.replay_buffer.written - rollout.buffer_size :]
    # Stable-Baselines3 adds the value of the last state where a time limit ended an episode.
    assert (abs(rollout.rewards[:, 0] - newest.numpy()) < 1e-6).mean() > 0.9


def test_it_is_reproducible(make_run: MakeRun) -> None:
    texts = []
    for _ in range(2):
        run = make_run([("pref_ppo", 1)], settings=SMALL)
        run.execute()
        texts.append((run.files[0].folder / "evaluations.csv").read_text())
    assert texts[0] == texts[1]
