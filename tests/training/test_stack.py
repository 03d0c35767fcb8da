"""Members train as one stack and never notice each other."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import MakeRun, tiny_task

from mujoco_sail.agents import registry
from mujoco_sail.agents.base import Member
from mujoco_sail.core.networks import StackedMLP
from mujoco_sail.core.optimiser import MemberAdam
from mujoco_sail.core.streams import Streams
from mujoco_sail.recipes.load import recipe_folder
from mujoco_sail.training.benchmark import shards, stack_key
from mujoco_sail.training.run import Run

FILES = ("evaluations.csv", "training.csv", "feedback.csv")


def members(names: str, seeds: int) -> list[Member]:
    return [
        Member(registry.load_entry(name, {}), seed)
        for name in names.split(",")
        for seed in range(seeds)
    ]


def trained(run: Run) -> dict[tuple[str, int], list[torch.Tensor]]:
    """Final parameters of every member of a run."""
    agent = run.members[0].entry.agent(run)
    agent.train()
    assert agent.updates >= 50
    assert agent.reward_updates.min() >= 4
    nets = (agent.actor, agent.critic, agent.target, agent.reward_net)
    parameters = [p for net in nets for p in net.parameters]
    parameters.append(agent.log_alpha)
    return {name: [p[m].detach() for p in parameters] for m, name in enumerate(run.names)}


def rows(run: Run, member: int, name: str) -> str:
    """A result file without the column of the machine's speed."""
    lines = (run.files[member].folder / name).read_text().splitlines()
    if name == "training.csv":
        lines = [line.rpartition(",")[0] for line in lines]
    return "\n".join(lines)


def test_pebble_sail_and_sail_revkl_with_three_seeds_are_one_stack_of_nine() -> None:
    nine = members("pebble,sail,sail_revkl", 3)
    assert len({stack_key(member) for member in nine}) == 1
    assert [len(stack) for stack in shards(nine, 1)[0]] == [9]


def test_shards_keep_every_member_once_and_are_of_equal_size() -> None:
    twelve = members("sac,pebble,sail,sail_revkl", 3)
    parts = shards(twelve, 2)
    assert [sum(len(stack) for stack in part) for part in parts] == [6, 6]
    assert [member for part in parts for stack in part for member in stack] == twelve


@pytest.mark.parametrize(
    ("agent", "changed", "twin"),
    [
        ("sail", {"lambda": 0.0}, "pebble"),
        ("sail_revkl", {"reverse_kl": 0.0}, "sail"),
        ("pebble_revkl", {"reverse_kl": 0.0}, "pebble"),
    ],
)
def test_a_coefficient_of_zero_is_the_simpler_agent_bit_for_bit(
    make_run: MakeRun, agent: str, changed: dict[str, float], twin: str
) -> None:
    one = make_run([(agent, 3)], settings={agent: changed})
    other = make_run([(twin, 3)])
    ours, theirs = trained(one), trained(other)
    for a, b in zip(ours[agent, 3], theirs[twin, 3], strict=True):
        assert torch.equal(a, b)
    for name in FILES:
        assert rows(one, 0, name) == rows(other, 0, name)


def test_the_sail_class_without_coefficients_is_the_pebble_class_bit_for_bit(
    make_run: MakeRun, tmp_path: Path
) -> None:
    recipe = tmp_path / "plain.toml"
    text = (recipe_folder("agents") / "pebble.toml").read_text()
    text = text.replace("agents.sail:SAIL", "agents.pebble:PEBBLE")
    recipe.write_text("\n".join(text.splitlines()[: text[: text.index("lambda =")].count("\n")]))
    ours, theirs = trained(make_run([("pebble", 0)])), trained(make_run([(str(recipe), 0)]))
    for a, b in zip(ours["pebble", 0], theirs["plain", 0], strict=True):
        assert torch.equal(a, b)


def test_the_coefficients_make_three_different_agents(make_run: MakeRun) -> None:
    settings = {"sail_revkl": {"reverse_kl": 0.5}}
    out = trained(make_run([("pebble", 0), ("sail", 0), ("sail_revkl", 0)], settings=settings))
    actors = [torch.cat([p.flatten() for p in parts[:6]]) for parts in out.values()]
    for a, b in ((0, 1), (0, 2), (1, 2)):
        assert not torch.equal(actors[a], actors[b])


NINE = [(name, seed) for name in ("pebble", "sail", "sail_revkl") for seed in range(3)]


@pytest.mark.parametrize("alone", [("pebble", 0), ("sail", 1), ("sail_revkl", 2)])
def test_a_member_alone_and_in_a_stack_of_nine_agree(
    make_run: MakeRun, alone: tuple[str, int]
) -> None:
    """50 environment steps with updates, one session among them."""
    task = tiny_task(
        steps=90, random_steps=30, exploration_steps=10, evaluation_every=90, reference_after=60
    )
    together, single = trained(make_run(NINE, task)), trained(make_run([alone], task))
    for a, b in zip(together[alone], single[alone], strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-7)


def test_a_member_draws_the_same_random_numbers_alone_and_in_a_stack() -> None:
    device = torch.device("cpu")
    many, one = Streams(range(9), "noise", device), Streams([4], "noise", device)
    assert torch.equal(many.normal(3, 2)[4], one.normal(3, 2)[0])
    assert torch.equal(many.integers(100, 7)[4], one.integers(100, 7)[0])
    assert torch.equal(many.uniform(5)[4], one.uniform(5)[0])
    other = Streams([4], "another purpose", device)
    assert not torch.equal(Streams([4], "noise", device).normal(3), other.normal(3))


def test_another_seed_of_one_member_leaves_the_others_unchanged(make_run: MakeRun) -> None:
    before = trained(make_run([("sail", 0), ("sail", 1), ("sail_revkl", 2)]))
    after = trained(make_run([("sail", 0), ("sail", 7), ("sail_revkl", 2)]))
    for name in (("sail", 0), ("sail_revkl", 2)):
        for a, b in zip(before[name], after[name], strict=True):
            assert torch.equal(a, b)
    assert not torch.equal(before["sail", 1][0], after["sail", 7][0])


def test_the_same_seed_gives_the_same_files_whatever_the_global_generators_hold(
    make_run: MakeRun,
) -> None:
    written = []
    for poison in (0, 1):
        random.seed(poison)
        np.random.seed(poison)
        torch.manual_seed(poison)
        run = make_run([("sail_revkl", 0), ("pebble", 5)])
        trained(run)
        written.append([rows(run, m, name) for m in range(2) for name in FILES])
    assert written[0] == written[1]
    assert len(written[0][0].splitlines()) == 3  # the header and two evaluations


def test_a_resting_member_keeps_parameters_moments_and_step_count() -> None:
    device = torch.device("cpu")
    ours = torch.zeros(2, 3, requires_grad=True)
    adam = MemberAdam([ours], 0.1)
    reference = torch.nn.Parameter(torch.zeros(3))
    library = torch.optim.Adam([reference], 0.1)
    draws = Streams([0], "gradients", device).normal(4, 3)[0]
    for step, gradient in enumerate(draws):
        adam.step([torch.stack([gradient, gradient])], active=[True, step in (1, 3)])
        if step in (1, 3):
            reference.grad = gradient
            library.step()
    torch.testing.assert_close(ours[1].detach(), reference.detach())
    assert not torch.equal(ours[0], ours[1])


def test_a_stack_of_networks_is_each_network_by_itself() -> None:
    device = torch.device("cpu")
    stack = StackedMLP([4, 8, 8, 2], 3, Streams([0, 1], "net", device), "relu")
    x = Streams([0, 1], "x", device).normal(1, 5, 4)
    out = stack(x)
    assert out.shape == (2, 3, 5, 2)
    for m in range(2):
        for g in range(3):
            h = x[m, 0]
            for layer in range(3):
                weight, bias = stack.parameters[2 * layer][m, g], stack.parameters[2 * layer + 1]
                h = h @ weight + bias[m, g]
                h = torch.relu(h) if layer < 2 else h
            torch.testing.assert_close(out[m, g], h)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_stack_trains_on_cuda(make_run: MakeRun) -> None:
    run = make_run([("pebble", 0), ("sail_revkl", 1)], device=torch.device("cuda"))
    for parameters in trained(run).values():
        assert all(p.is_cuda and p.isfinite().all() for p in parameters)


@pytest.mark.parametrize("size", [64, 256])  # of width and batch: other libraries, other cuts
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_neither_threads_nor_the_size_of_the_stack_change_a_bit(
    make_run: MakeRun, precision: str, size: int
) -> None:
    """So that files do not depend on how members are spread over workers."""
    task = tiny_task(precision=precision, hidden_units=size, batch_size=size)
    names = [("sail", 0), ("pebble", 1), ("sail_revkl", 2)]
    alone = trained(make_run([names[2]], task))
    torch.set_num_threads(2)
    try:
        together = trained(make_run(names, task))
    finally:
        torch.set_num_threads(1)
    for a, b in zip(alone[names[2]], together[names[2]], strict=True):
        assert torch.equal(a, b)
