"""Processors and memory, on any operating system and in any control group."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
import torch
from helpers.tiny import CPU

from mujoco_sail.agents import registry
from mujoco_sail.agents.base import Member
from mujoco_sail.core import products
from mujoco_sail.recipes.load import load_task
from mujoco_sail.system import cgroups, machine
from mujoco_sail.training import forecast, plan, pool

MIB = 2**20
Tree = Callable[..., None]


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tree:
    """Creates files of control groups: `tree("0::/a", {"a/cpu.max": "max 100000"})`."""

    def make(own: str, files: dict[str, Any]) -> None:
        monkeypatch.setattr(cgroups, "MOUNT", tmp_path / "mount")
        monkeypatch.setattr(cgroups, "OWN", tmp_path / "own")
        (tmp_path / "own").write_text(own + "\n")
        for name, content in files.items():
            path = tmp_path / "mount" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"{content}\n")

    return make


@pytest.mark.parametrize(
    ("own", "files", "limit"),
    [
        ("0::/", {}, math.inf),
        ("0::/job", {"job/cpu.max": "max 100000"}, math.inf),
        ("0::/job", {"job/cpu.max": "150000 100000"}, 1.5),
        # The smaller limit is that of the parent, then that of the own group.
        ("0::/a/b", {"a/b/cpu.max": "400000 100000", "a/cpu.max": "200000 100000"}, 2),
        ("0::/a/b", {"a/b/cpu.max": "100000 100000", "a/cpu.max": "200000 100000"}, 1),
        # A container that sees the host's path: its group is the root of the mount.
        ("0::/docker/f00", {"cpu.max": "50000 100000"}, 0.5),
        ("0::/../job", {"job/cpu.max": "300000 100000"}, 3),
        # Version 1, alone and together with version 2.
        (
            "4:cpu,cpuacct:/a",
            {"cpu/a/cpu.cfs_quota_us": -1, "cpu/a/cpu.cfs_period_us": 100000},
            math.inf,
        ),
        (
            "4:cpu,cpuacct:/a/b\n0::/",
            {"cpu,cpuacct/a/cpu.cfs_quota_us": 250000, "cpu,cpuacct/a/cpu.cfs_period_us": 100000},
            2.5,
        ),
        ("1:memory:/a\n0::/a", {"unified/a/cpu.max": "200000 100000"}, 2),
        # The limit of another group, or an invalid one.
        ("0::/a", {"b/cpu.max": "100000 100000"}, math.inf),
        ("0::/a", {"a/cpu.max": "some words"}, math.inf),
    ],
)
def test_the_cpu_limit_is_the_smallest_of_the_group_and_its_parents(
    tree: Tree, own: str, files: dict[str, Any], limit: float
) -> None:
    tree(own, files)
    assert cgroups.cpu_limit() == limit


@pytest.mark.parametrize(
    ("own", "files", "left"),
    [
        ("0::/", {}, math.inf),
        ("0::/a", {"a/memory.max": "max", "a/memory.current": 5}, math.inf),
        ("0::/a", {"a/memory.max": 100, "a/memory.current": 30}, 70),
        (
            "0::/a",
            {
                "a/memory.max": 100,
                "a/memory.current": 80,
                "a/memory.stat": "anon 30\ninactive_file 40\nactive_file 10",
            },
            60,
        ),
        # The own group has more left than its parent, whose other children have used the rest.
        (
            "0::/a/b",
            {
                "a/b/memory.max": 100,
                "a/b/memory.current": 10,
                "a/memory.max": 200,
                "a/memory.current": 190,
            },
            10,
        ),
        ("0::/a", {"a/memory.max": 100, "a/memory.current": 120}, 0),
        (
            "3:memory:/a",
            {
                "memory/a/memory.limit_in_bytes": 100,
                "memory/a/memory.usage_in_bytes": 80,
                "memory/a/memory.stat": "inactive_file 1\ntotal_inactive_file 50",
            },
            70,
        ),
    ],
)
def test_memory_left_is_the_smallest_limit_minus_what_is_used_and_not_reclaimable(
    tree: Tree, own: str, files: dict[str, Any], left: float
) -> None:
    tree(own, files)
    assert cgroups.memory_left() == left


def test_the_huge_number_of_version_1_is_no_limit(
    tree: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    group = "memory/a/memory."
    tree("3:memory:/a", {f"{group}limit_in_bytes": 2**63 - 4096, f"{group}usage_in_bytes": MIB})
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=7 * MIB))
    assert machine.free_memory() == 7 * MIB


@pytest.mark.parametrize(
    ("quota", "cores"), [("max", 8), ("150000", 2), ("10000", 1), ("990000", 8), ("800000", 8)]
)
def test_available_cores_are_limited_by_affinity_and_by_the_quota_rounded_up(
    tree: Tree, monkeypatch: pytest.MonkeyPatch, quota: str, cores: int
) -> None:
    tree("0::/", {"cpu.max": f"{quota} 100000"})
    monkeypatch.setattr(psutil.Process, "cpu_affinity", lambda self: list(range(8)))
    assert machine.available_cores() == cores


def test_free_memory_is_the_smaller_of_the_machines_and_the_groups(
    tree: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree("0::/", {"memory.max": 20 * MIB, "memory.current": 5 * MIB})
    for available, free in ((7, 7), (70, 15)):
        monkeypatch.setattr(
            psutil, "virtual_memory", lambda n=available: SimpleNamespace(available=n * MIB)
        )
        assert machine.free_memory() == free * MIB


def test_cores_and_memory_are_found_without_affinity_and_proc(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """As macOS is."""
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.delattr(psutil.Process, "cpu_affinity")
    monkeypatch.setattr(psutil, "cpu_count", lambda: 10)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=9 * MIB))
    monkeypatch.setattr(cgroups, "MOUNT", tmp_path / "none")
    monkeypatch.setattr(cgroups, "OWN", tmp_path / "none")
    read_text = Path.read_text

    def without_proc(path: Path, *args: Any, **kwargs: Any) -> str:
        if path.is_relative_to("/proc"):
            raise FileNotFoundError(path)
        return read_text(path, *args, **kwargs)

    monkeypatch.setattr(Path, "read_text", without_proc)
    assert machine.available_cores() == 10
    assert machine.free_memory() == 9 * MIB
    assert machine.processor()


def test_memory_is_counted_for_the_workers_that_will_be_started(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A process for each of 128 cores would need 41 GiB; three members start three."""
    monkeypatch.setattr(pool, "available_cores", lambda: 128)
    monkeypatch.setattr(forecast, "free_memory", lambda: 32 * 1024 * MIB)
    task = load_task("walker_walk", "paper", {})
    (job,) = plan.prepare([task], [registry.load_spec("sac", {})], [0, 1, 2], CPU, tmp_path)
    shares = [[[member]] for member in job.members]
    host, _ = forecast.memory_needed(task, shares, (24, 6), CPU)
    assert job.memory.startswith(f"walker_walk: 3 members, about {host / forecast.GIB:.1f} GiB")


@pytest.mark.parametrize(
    ("precision", "seconds", "said"),
    [("bfloat16", 8.1, True), ("bfloat16", 0.5, False), ("float32", 8.1, False)],
)
def test_a_warning_states_the_ratio_if_bfloat16_is_slower(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, precision: str, seconds: float, said: bool
) -> None:
    measured = {torch.bfloat16: seconds, torch.float32: 1.0}
    monkeypatch.setattr(products, "seconds_of_product", lambda a, b: measured[a.dtype])
    task = load_task("walker_walk", "quick", {"precision": precision})
    job = plan.Job(task, [Member(registry.load_spec("sac", {}), 0)], 0, "", "memory")
    lines = list(plan.look_ahead(job, "walker_walk", CPU, tmp_path))
    about = [line for line in lines if "bfloat16" in line]
    assert len(about) == said
    if said:
        assert "walker_walk: bfloat16 products are 8.1 times slower than float32 on" in about[0]
        assert "use float32" in about[0]


def test_disturbed_timings_do_not_change_the_ratio(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = iter(range(1000))
    monkeypatch.setattr(
        products, "seconds_of_product", lambda a, b: 9.0 if next(calls) % 3 else a.element_size()
    )
    assert products.bfloat16_slowdown() == 0.5


def test_the_seconds_of_a_product_are_positive() -> None:
    assert products.seconds_of_product(torch.ones(1, 2, 3), torch.ones(1, 3, 4)) > 0
