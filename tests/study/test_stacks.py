"""Stacks of the study of the mechanism: they train, and go on from a saved state."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from helpers.tiny import tiny_task
from stacks import Refitted, Stack

from mujoco_sail.agents.base import Member
from mujoco_sail.agents.registry import load_spec


def made() -> Stack:
    spec = replace(load_spec("pebble", {"queries": "uniform"}), agent=Refitted)
    return Stack(tiny_task(), [Member(spec, 0), Member(spec, 1)])


def test_a_stack_goes_on_from_its_saved_state(tmp_path: Path) -> None:
    straight, saved, loaded = made(), made(), made()
    straight.train(130)
    assert straight.agent.updates > 0
    assert (straight.agent.reward_model.updates > 0).all()
    saved.train(100)
    saved.save(tmp_path / "stack.pt")
    loaded.load(tmp_path / "stack.pt")
    loaded.train(130)
    assert loaded.step == straight.step == 130
    for name in ("actor", "critic"):
        parameters = [getattr(one.agent, name).flat for one in (straight, loaded)]
        assert torch.equal(*parameters)
    assert torch.equal(*(one.agent.reward_model.net.flat for one in (straight, loaded)))
