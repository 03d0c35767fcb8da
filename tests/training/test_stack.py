"""Stacks: grouping of members, and independence of a member from the others."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.runs import FILES, MakeRun, members_of, rows, trained
from helpers.tiny import CPU, tiny_task

from mujoco_sail.agents.base import Member
from mujoco_sail.training.pool import stack_key, stacks_of_workers
from mujoco_sail.training.run import Run


def members(names: str, seeds: int) -> list[Member]:
    return members_of([(name, seed) for name in names.split(",") for seed in range(seeds)])


def test_pebble_sail_and_sail_revkl_with_three_seeds_form_one_stack() -> None:
    nine = members("pebble,sail,sail_revkl", 3)
    assert len({stack_key(member) for member in nine}) == 1
    assert [len(stack) for stack in stacks_of_workers(nine, 1)[0]] == [9]


def test_workers_have_equal_numbers_of_members_and_each_member_once() -> None:
    twelve = members("sac,pebble,sail,sail_revkl", 3)
    parts = stacks_of_workers(twelve, 2)
    assert [sum(len(stack) for stack in part) for part in parts] == [6, 6]
    assert [member for part in parts for stack in part for member in stack] == twelve


NINE = [(name, seed) for name in ("pebble", "sail", "sail_revkl") for seed in range(3)]


# 50 environment steps with updates, including a session.
SHORT = {
    "steps": 90,
    "random_steps": 30,
    "exploration_steps": 10,
    "evaluation_every": 90,
    "reference_after": 60,
}


@pytest.mark.parametrize("engine", ["eager", "compiled"])
def test_a_member_alone_equals_the_member_in_a_stack(make_run: MakeRun, engine: str) -> None:
    task = tiny_task(engine=engine, **SHORT)
    together = trained(make_run(NINE, task))
    for alone in (("pebble", 0), ("sail", 1), ("sail_revkl", 2)):
        for a, b in zip(together[alone], trained(make_run([alone], task))[alone], strict=True):
            assert torch.equal(a, b)


@pytest.mark.parametrize("engine", ["eager", "compiled"])
def test_the_seed_of_one_member_does_not_affect_the_others(make_run: MakeRun, engine: str) -> None:
    task = tiny_task(engine=engine)
    before = trained(make_run([("sail", 0), ("sail", 1), ("sail_revkl", 2)], task))
    after = trained(make_run([("sail", 0), ("sail", 7), ("sail_revkl", 2)], task))
    for name in (("sail", 0), ("sail_revkl", 2)):
        for a, b in zip(before[name], after[name], strict=True):
            assert torch.equal(a, b)
    assert not torch.equal(before["sail", 1][0], after["sail", 7][0])


def test_files_do_not_depend_on_global_random_generators(
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


@pytest.mark.parametrize(
    ("arm", "quiet"),
    [
        ("pebble", {"ensemble": 1}),
        ("surf", {"unlabelled_weight": 0.0, "shortest_crop": 0.7}),
        ("qpa", {"aligned_share": 0.0, "shortest_crop": 0.5}),
        ("rime", {"warm_start_updates": 0, "tau_upper": 0.6}),
    ],
)
def test_files_of_a_member_do_not_depend_on_the_coefficients_of_another(
    tmp_path: Path, arm: str, quiet: dict[str, Any]
) -> None:
    """The other member has the settings of the recipe and the same network shapes."""
    shape = {key: value for key, value in quiet.items() if key == "ensemble"}
    (one,), (other,) = members_of([(arm, 3)], {arm: quiet}), members_of([(arm, 4)], {arm: shape})
    assert stack_key(one) == stack_key(other)
    written = []
    for stack in ([one], [one, other]):
        run = Run(tiny_task(), stack, CPU, tmp_path / str(len(stack)), lambda _: None)
        trained(run)
        written.append([rows(run, 0, name) for name in FILES])
    assert written[0] == written[1]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_stack_trains_on_cuda(make_run: MakeRun) -> None:
    run = make_run([("pebble", 0), ("sail_revkl", 1)], device=torch.device("cuda"))
    for parameters in trained(run).values():
        assert all(p.is_cuda and p.isfinite().all() for p in parameters)


@pytest.mark.parametrize(
    ("env", "engine", "precision", "width", "batch"),
    [
        ("half_cheetah", "eager", "float32", 64, 64),
        ("half_cheetah", "eager", "float32", 256, 256),
        ("half_cheetah", "eager", "bfloat16", 64, 64),
        ("half_cheetah", "eager", "bfloat16", 256, 256),
        ("walker_stand", "compiled", "float32", 128, 64),  # the program of the learning test
        ("half_cheetah", "compiled", "bfloat16", 64, 64),
    ],
)
def test_results_do_not_depend_on_threads_or_stack_size(
    make_run: MakeRun, env: str, engine: str, precision: str, width: int, batch: int
) -> None:
    """So files do not depend on the distribution of members over workers."""
    sizes = {"hidden_units": width, "batch_size": batch}
    task = tiny_task(env, engine=engine, precision=precision, **sizes, **SHORT)
    others = "sail_revkl" if engine == "eager" else "pebble"  # one update to compile, not two
    names = [("sail", 0), ("pebble", 1), (others, 2)]
    alone = trained(make_run([names[2]], task))
    torch.set_num_threads(2)
    try:
        together = trained(make_run(names, task))
    finally:
        torch.set_num_threads(1)
    for a, b in zip(alone[names[2]], together[names[2]], strict=True):
        assert torch.equal(a, b)
