"""Plug-ins that override a loss, the example of docs/agents.md among them, or what a loss calls."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.gradients import Recorder, assert_is_derivative
from helpers.pages import BLOCKS
from helpers.resuming import results_after_stops
from helpers.runs import FILES, MakeRun, results_of, trained, trained_agent
from helpers.tiny import tiny_task

from mujoco_sail.agents import own_losses
from mujoco_sail.agents.mrn import MRN
from mujoco_sail.agents.natural import NaturalSAIL
from mujoco_sail.agents.sac import SAC
from mujoco_sail.core.distributions import standard_normals
from mujoco_sail.core.replay_buffer import Batch

DELTA = 0.05  # small enough that errors lie on both sides
SETTINGS = {"delta": DELTA}


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("plugin")
    for name in ("huber.py", "huber.toml"):
        (text,) = (block.text for block in BLOCKS if block.file == name)
        (folder / name).write_text(text)
    return str(folder / "huber.toml")


def test_the_plug_in_is_short(recipe: str) -> None:
    assert len(Path(recipe).with_name("huber.py").read_text().splitlines()) <= 25


def test_its_gradient_equals_that_of_the_huber_loss(
    make_run: MakeRun, float64: None, recipe: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent = trained_agent(make_run([(recipe, 0), (recipe, 1)], settings={recipe: SETTINGS}))
    assert own_losses.own_losses(type(agent)) == ["critic_loss"]
    recorder = Recorder(agent.sac_state())
    for module in ("agents.own_losses", "core.update"):
        monkeypatch.setattr(f"mujoco_sail.{module}.adam_step", recorder)
    streams = agent.streams("test")
    rows, uniform = agent.sample(streams.uniform(8)), streams.uniform(8, 2 * agent.action_size)
    batch = Batch.of(rows, *agent.runner.sizes)
    batch.terminated[:, ::2] = 1.0
    logged = torch.zeros(2, 3)
    own_losses.update_by_autograd(
        agent, agent._constants, agent.sac_state(), rows, uniform, torch.zeros(()), logged
    )
    assert recorder.gradients.keys() == {"critic", "actor", "temperature"}
    with torch.no_grad():
        pi = agent.distribution(batch.next_observation)
        action, log_prob = pi.action_and_log_prob(standard_normals(uniform)[0])
        next_q = torch.minimum(*agent.q(agent.target, batch.next_observation, action).unbind(1))
        soft_value = next_q - agent.log_alpha.exp()[:, None] * log_prob
        y = batch.reward + 0.99 * (1 - batch.terminated) * soft_value

    def losses() -> torch.Tensor:
        error = (agent.q(agent.critic, batch.observation, batch.action) - y[:, None]).abs()
        loss = torch.where(error < DELTA, 0.5 * error**2, DELTA * (error - 0.5 * DELTA))
        assert 0 < (error < DELTA).double().mean() < 1
        return loss.mean(-1).sum(-1)

    torch.testing.assert_close(logged[:, 0], losses().detach())
    assert_is_derivative(recorder.gradients["critic"], agent.critic.layers, lambda: losses().sum())


def test_the_update_by_autograd_equals_the_written_out_one_for_the_same_loss(
    make_run: MakeRun, float64: None, recipe: str
) -> None:
    """The Huber loss is the squared error if delta exceeds all errors; compares whole runs."""
    squared = trained(make_run([(recipe, 0)], settings={recipe: {"delta": 1e6}}))["huber", 0]
    for one, other in zip(squared, trained(make_run([("pebble", 0)]))["pebble", 0], strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-7)


def test_it_writes_the_same_files_alone_in_a_stack_and_resumed(
    make_run: MakeRun, recipe: str, tmp_path: Path
) -> None:
    """The sizes are not multiples of a vector register."""
    task = tiny_task(hidden_units=77, batch_size=19, reward_units=38)
    settings = {recipe: SETTINGS}
    names = [(recipe, seed) for seed in range(3)]
    alone, stack = make_run(names[1:2], task, settings), make_run(names, task, settings)
    alone.execute()
    stack.execute()
    whole = results_of(stack)
    assert results_of(alone) == whole[len(FILES) : 2 * len(FILES)]
    assert results_after_stops(task, names, settings, (70, 95), tmp_path / "again") == whole


def test_an_overridden_target_is_detected() -> None:
    class Myopic(SAC):
        def critic_target(self, batch: Batch, *next_sample: Any) -> torch.Tensor:
            return batch.reward

    assert own_losses.own_losses(Myopic) == ["critic_target"]
    assert own_losses.own_losses(SAC) == []


@pytest.mark.parametrize("base", [MRN, NaturalSAIL])
def test_agents_that_need_the_suites_loss_refuse_an_overridden_one(base: type[SAC]) -> None:
    own = {"critic_loss": lambda self, *args: super().critic_loss(*args)}
    refusal = "Other overrides critic_loss, which its base class does not allow: extend SAIL"
    with pytest.raises(TypeError, match=refusal):
        type("Other", (base,), own)


# A subclass with one changed method; `{change}` is applied to its value.
CHANGED = """
from mujoco_sail.agents.sail import SAIL


class Changed(SAIL):
    def {method}(self, *args):
        value = super().{method}(*args)
        return {change}
"""


def of_plug_in(make_run: MakeRun, folder: Path, method: str, change: str) -> list[torch.Tensor]:
    """Parameters after a run of a plug-in."""
    folder.mkdir()
    (folder / "changed.py").write_text(CHANGED.format(method=method, change=change))
    recipe = folder / "changed.toml"
    recipe.write_text('title = "x"\nbase = "pebble"\nclass = "changed:Changed"\n')
    run = make_run([(str(recipe), 0)])
    assert own_losses.own_losses(run.members[0].spec.agent) == [method]
    return trained(run)["changed", 0]


@pytest.mark.parametrize(
    ("method", "change"),
    [
        ("q", "value / 2"),
        ("min_q", "value / 2"),
        ("distribution", "value._replace(mean=value.mean / 2)"),
    ],
)
def test_an_overridden_method_of_a_loss_takes_effect(
    make_run: MakeRun, tmp_path: Path, float64: None, method: str, change: str
) -> None:
    pebble = trained(make_run([("pebble", 0)]))["pebble", 0]
    same = of_plug_in(make_run, tmp_path / "same", method, "value")
    for one, other in zip(same, pebble, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-7)
    changed = of_plug_in(make_run, tmp_path / "changed", method, change)
    assert not torch.allclose(changed[0], pebble[0], rtol=1e-3)
