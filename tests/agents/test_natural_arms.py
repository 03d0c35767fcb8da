"""Agents with a natural-gradient actor: bounded KL divergence of steps, and stacking."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from helpers.runs import MakeRun, members_of, trained, trained_agent
from helpers.tiny import tiny_task
from torch import Tensor
from torch.distributions import Independent, Normal, kl_divergence

from mujoco_sail.agents.natural import NaturalSAIL
from mujoco_sail.core import update as update_module
from mujoco_sail.core.distributions import SquashedGaussian
from mujoco_sail.core.passes import forward
from mujoco_sail.training.pool import stack_key

NAMES = [("pebble_npg", 0), ("sail_revkl_npg", 1), ("sail_revkl_npg", 2)]
FEW = {name: {"cg_iterations": 3} for name in ("pebble_npg", "sail_revkl_npg")}


def test_natural_gradient_agents_share_a_stack_separate_from_adam_agents() -> None:
    stacks = [stack_key(member) for member in members_of([*NAMES, ("sail_revkl", 1)])]
    assert len(set(stacks[:3])) == 1
    assert stacks[3] != stacks[0]


@pytest.mark.parametrize("max_kl", [0.01, 1.0])
def test_no_step_exceeds_max_kl_by_more_than_ten_percent(
    make_run: MakeRun, monkeypatch: pytest.MonkeyPatch, max_kl: float
) -> None:
    reached = []
    step = update_module.natural_step

    def watched(
        natural: Any, parameters: Sequence[Tensor], grad_output: Any, states: Tensor, log_std: Any
    ) -> None:
        base = []
        for move in (lambda: None, lambda: step(natural, parameters, grad_output, states, log_std)):
            move()
            output = forward([p.double() for p in parameters], states.double())[0]
            pi = SquashedGaussian.from_output(output, log_std)
            base.append(Independent(Normal(pi.mean, pi.log_std.exp()), 1))
        reached.append(kl_divergence(*base).mean(-1) / max_kl)

    monkeypatch.setattr(update_module, "natural_step", watched)
    settings = {name: {"max_kl": max_kl} for name, _ in NAMES}
    agent = trained_agent(make_run(NAMES, settings=settings))
    kl = torch.stack(reached)
    assert kl.shape == (agent.updates, 3)
    assert (kl <= 1.1 + 1e-3).all()  # 1e-3 for float32 rounding
    assert (kl.median(0).values > 0.5).all()
    assert not any(moment.any() for moment in agent.actor_adam.trained.means)


def test_an_overridden_loss_is_refused() -> None:
    refusal = "Penalised overrides actor_loss, which its base class does not allow: extend SAIL"
    with pytest.raises(TypeError, match=refusal):

        class Penalised(NaturalSAIL):
            def actor_loss(self, observation: Tensor, *sample: Any) -> Tensor:
                return super().actor_loss(observation, *sample) + observation.mean((1, 2))


def test_an_update_reduces_the_actor_loss_on_its_batch(
    make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent = trained_agent(make_run(NAMES))
    streams, log, still = agent.streams("test"), torch.zeros(3, 3), torch.zeros(())
    rows, uniform = agent.sample(streams.uniform(16)), streams.uniform(16, 2 * agent.action_size)
    # Critics and temperature do not change, so the loss is the same function before and after.
    monkeypatch.setattr(update_module, "adam_step", lambda *_: None)
    losses = []
    for _ in range(2):
        with torch.no_grad():
            update_module.update(agent._constants, agent.sac_state(), rows, uniform, still, log)
        losses.append(log[:, 1].clone())
    assert (losses[1] < losses[0]).all()


def test_the_anchor_changes_the_step_and_zero_coefficients_equal_pebble_npg(
    make_run: MakeRun,
) -> None:
    def parameters(name: str, **settings: float) -> list[Tensor]:
        changed = {name: {"cg_iterations": 3, **settings}}
        return trained(make_run([(name, 3)], settings=changed))[name, 3]

    plain = parameters("sail_revkl_npg", reverse_kl=0.0, **{"lambda": 0.0})
    twin = parameters("pebble_npg")
    assert all(torch.equal(a, b) for a, b in zip(plain, twin, strict=True))
    anchored = parameters("sail_revkl_npg", reverse_kl=0.5, **{"lambda": 0.0})
    assert not torch.equal(anchored[0], plain[0])


@pytest.mark.parametrize(
    ("width", "batch", "precision"),
    [(64, 64, "float32"), (31, 7, "bfloat16")],
)
def test_results_do_not_depend_on_threads_or_stack_size(
    make_run: MakeRun, width: int, batch: int, precision: str
) -> None:
    short = {"steps": 100, "evaluation_every": 100, "random_steps": 45}
    task = tiny_task(hidden_units=width, batch_size=batch, precision=precision, **short)
    alone = trained(make_run([NAMES[2]], task, FEW))[NAMES[2]]
    torch.set_num_threads(2)
    try:
        together = trained(make_run(NAMES, task, FEW))[NAMES[2]]
    finally:
        torch.set_num_threads(1)
    for a, b in zip(alone, together, strict=True):
        assert torch.equal(a, b)
