"""Training in every kind of environment, and the order of learning and stepping."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from helpers.environments import KINDS
from helpers.runs import MakeRun
from helpers.tiny import TINY, tiny_task

from mujoco_sail.agents.sac import SAC
from mujoco_sail.agents.sail import SAIL, T2_LOGGED
from mujoco_sail.recipes.load import load_task
from mujoco_sail.system.errors import UserError


@pytest.mark.parametrize("env", KINDS)
def test_preference_agents_train_in_every_kind_of_environment(env: str, make_run: MakeRun) -> None:
    own = load_task(env, "quick", {})
    episode = min(own.episode_steps, TINY["episode_steps"])
    members = make_run([("pebble", 0), ("sail_revkl", 0)], tiny_task(env, episode_steps=episode))
    agent: Any = members.members[0].spec.agent(members)
    before = [p.detach().clone() for p in agent.actor.parameters]
    agent.train()
    for old, new in zip(before, agent.actor.parameters, strict=True):
        assert not torch.equal(old, new)
    assert agent.reward_model.updates.min() > 0
    metrics = agent.metrics()
    of_t2 = {name: metrics.pop(name) for name in T2_LOGGED}
    assert all(value.isfinite().all() for value in metrics.values())
    assert all(value[0].isnan() for value in of_t2.values())  # PEBBLE has no T2
    del of_t2["t2_age_nats"]  # undefined for random actions
    assert all(value[1].isfinite() for value in of_t2.values())


def test_a_step_learns_from_the_transitions_of_earlier_steps(
    make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The order, which lets a GPU learn while the CPU simulates, is the same on the CPU."""
    learn, seen = SAIL.learn_step, []

    def watching_learn(agent: SAIL, step: int) -> None:
        seen.append((step, len(agent.replay_buffer)))
        learn(agent, step)

    monkeypatch.setattr(SAIL, "learn_step", watching_learn)
    make_run([("pebble", 0)]).execute()
    first, last = TINY["random_steps"], TINY["steps"]
    assert seen == [(step, step - 1) for step in range(first, last + 1)]


def test_what_a_checkpoint_cannot_hold_is_refused_before_the_training(
    make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = SAC.__init__

    def with_list(agent: Any, runner: Any) -> None:
        made(agent, runner)
        agent.nets = [torch.zeros(1, 1)]

    monkeypatch.setattr(SAC, "__init__", with_list)
    monkeypatch.setattr(SAC, "train", None)
    with pytest.raises(UserError, match=r"^SAC\.nets is a list: a checkpoint holds tensors"):
        make_run([("sac", 0)]).execute()
