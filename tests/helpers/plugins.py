"""Plug-in of three modules next to a recipe."""

from __future__ import annotations

import re
from pathlib import Path

from helpers.tiny import tiny_task
from mujoco_sail.agents import registry
from mujoco_sail.agents.base import AgentSpec

# One module is imported inside a function; its number is logged in training.csv.
AGENT = """
from __future__ import annotations

import random
from dataclasses import dataclass

import torch

import common
from mujoco_sail.agents.sail import SAIL, SAILSettings
from mujoco_sail.recipes import setting

random.random(), torch.ones(1)


@dataclass(frozen=True, kw_only=True)
class XSettings(SAILSettings):
    penalty: float = setting(low=0)


class X(SAIL):
    Settings = XSettings
    number = common.NUMBER

    def metrics(self):
        import late

        numbers = torch.full((len(self.runner.members),), float(common.NUMBER + late.MORE))
        return {**super().metrics(), "number": numbers}
"""
RECIPE = 'title = "x"\nbase = "pebble"\nclass = "agent:X"\npenalty = 0.5\n'


def write_plugin(
    folder: Path, number: int, recipe: str = "mine", late: str = "MORE = 0", prefix: str = ""
) -> str:
    """Writes a plug-in, with a prefix of its module names; returns the path of its recipe."""
    folder.mkdir(parents=True, exist_ok=True)
    text = re.sub(r"\b(common|late)\b", rf"{prefix}\1", AGENT)
    (folder / f"{prefix}agent.py").write_text(text)
    (folder / f"{prefix}common.py").write_text(f"NUMBER = {number}")
    (folder / f"{prefix}late.py").write_text(late)
    (folder / f"{recipe}.toml").write_text(RECIPE.replace("agent:X", f"{prefix}agent:X"))
    return str(folder / f"{recipe}.toml")


def load(recipe: str) -> AgentSpec:
    return registry.load_spec(recipe, {})


def source(spec: AgentSpec) -> str:
    """Digest of the source in `run.toml`."""
    return registry.resolved(tiny_task(), spec)["agent"]["source"]
