"""SAIL-RevKL, SAIL and PEBBLE differ only in two coefficients."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from helpers.runs import FILES, MakeRun, rows, trained
from helpers.tiny import tiny_task

from mujoco_sail.recipes.load import recipe_folder


@pytest.mark.parametrize("engine", ["eager", "compiled"])
@pytest.mark.parametrize(
    ("agent", "changed", "twin"),
    [
        ("sail", {"lambda": 0.0}, "pebble"),
        ("sail_revkl", {"reverse_kl": 0.0}, "sail"),
        ("pebble_revkl", {"reverse_kl": 0.0}, "pebble"),
    ],
)
def test_a_coefficient_of_zero_equals_the_simpler_agent_bit_for_bit(
    make_run: MakeRun, agent: str, changed: dict[str, float], twin: str, engine: str
) -> None:
    task = tiny_task(engine=engine)
    one = make_run([(agent, 3)], task, settings={agent: changed})
    other = make_run([(twin, 3)], task)
    ours, theirs = trained(one), trained(other)
    for a, b in zip(ours[agent, 3], theirs[twin, 3], strict=True):
        assert torch.equal(a, b)
    for name in FILES:
        assert rows(one, 0, name) == rows(other, 0, name)


def test_the_sail_class_with_zero_coefficients_equals_the_pebble_class_bit_for_bit(
    make_run: MakeRun, tmp_path: Path
) -> None:
    recipe = tmp_path / "plain.toml"
    text = (recipe_folder("agents") / "pebble.toml").read_text()
    text = text.replace("agents.sail:SAIL", "agents.pebble:PEBBLE")
    recipe.write_text("\n".join(text.splitlines()[: text[: text.index("lambda =")].count("\n")]))
    ours, theirs = trained(make_run([("pebble", 0)])), trained(make_run([(str(recipe), 0)]))
    for a, b in zip(ours["pebble", 0], theirs["plain", 0], strict=True):
        assert torch.equal(a, b)


def test_nonzero_coefficients_give_three_different_agents(make_run: MakeRun) -> None:
    settings = {"sail_revkl": {"reverse_kl": 0.5}}
    out = trained(make_run([("pebble", 0), ("sail", 0), ("sail_revkl", 0)], settings=settings))
    actors = [torch.cat([p.flatten() for p in parts[:6]]) for parts in out.values()]
    for a, b in ((0, 1), (0, 2), (1, 2)):
        assert not torch.equal(actors[a], actors[b])
