"""Option `--cluster`: two Ray nodes on this machine give the same bytes as one process."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from helpers.command_line import PROGRAM, fails, overrides
from helpers.runs import FILES, contents
from helpers.tiny import TINY, tiny_task

from mujoco_sail.agents import registry
from mujoco_sail.agents.base import Member
from mujoco_sail.cluster import grid, node
from mujoco_sail.training.plan import Job

needs_ray = pytest.mark.skipif(
    find_spec("ray") is None,
    reason="needs the extra: pip install 'mujoco-sail[cluster]'",
)
LONGER = TINY | {"steps": 450, "evaluation_every": 150, "log_every": 50, "labels": 40}
LONGER |= {"checkpoint_minutes": 0.002}
NODE = {"num_cpus": 1, "object_store_memory": 80 * 2**20}

Nodes = Any  # ray.cluster_utils.Cluster


@pytest.fixture(scope="module")
def nodes() -> Iterator[Nodes]:
    """A cluster of two nodes with one core each."""
    utils = pytest.importorskip("ray.cluster_utils")
    made = utils.Cluster(initialize_head=True, head_node_args={**NODE, "include_dashboard": False})
    made.add_node(**NODE)
    yield made
    made.shutdown()


def start(results: Path, changes: Mapping[str, Any], *more: str) -> subprocess.Popen[str]:
    """Starts a benchmark of 2 environments and 2 agents."""
    options = ["--env", "half_cheetah,walker2d", "--agents", "pebble,sail", "--seeds", "1"]
    options += ["--protocol", "quick", "--results", str(results), "--device", "cpu"]
    return subprocess.Popen(
        [*PROGRAM, "run", *options, *overrides(changes), *more],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def made(results: Path, changes: Mapping[str, Any], *more: str) -> tuple[dict[str, bytes], str]:
    """Runs a benchmark that must succeed; returns its files and its output."""
    process = start(results, changes, *more)
    output, _ = process.communicate()
    assert process.returncode == 0, output
    files = contents(results)
    assert len(files) == 4 * len(FILES)
    assert not [path for path in results.rglob(".*") if path.is_file()]  # no lock, no probe
    return files, output


@pytest.fixture(scope="module")
def longer(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Files of a benchmark without a cluster."""
    files, _ = made(tmp_path_factory.mktemp("here"), LONGER)
    return files


def wait_for_checkpoints(results: Path, process: subprocess.Popen[str], since: int) -> None:
    while process.poll() is None and not has_newer(results, "checkpoints/*.json", since):
        time.sleep(0.02)


def has_newer(results: Path, name: str, since: int) -> bool:
    """Whether a file of a run is newer than a time in ns."""
    found = results.glob(f"*/*/*/{name}")
    return any(path.stat().st_mtime_ns > since for path in found if path.exists())


def test_losses_of_a_node_do_not_change_the_results(
    nodes: Nodes, tmp_path: Path, longer: dict[str, bytes]
) -> None:
    results, moments = tmp_path / "results", random.Random(0)
    process = start(results, LONGER | {"checkpoint_minutes": 0.001}, "--cluster", nodes.address)
    for _ in range(2):
        wait_for_checkpoints(results, process, time.time_ns())
        time.sleep(moments.uniform(0, 0.5))
        assert process.poll() is None
        nodes.remove_node(nodes.worker_nodes.copy().pop(), allow_graceful=False)
        nodes.add_node(**NODE)
    output, _ = process.communicate()
    assert process.returncode == 0, output
    assert output.count("a node was lost") >= 1, output
    assert contents(results) == longer


def test_the_same_command_resumes_after_the_main_process_was_killed_and_after_a_signal(
    nodes: Nodes, tmp_path: Path, longer: dict[str, bytes]
) -> None:
    """A stopped benchmark writes checkpoints before they are due."""
    results, rare = tmp_path / "results", LONGER | {"checkpoint_minutes": 60.0}
    process = start(results, LONGER, "--cluster", nodes.address)
    wait_for_checkpoints(results, process, 0)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    since = time.time_ns()
    process = start(results, rare, "--cluster", nodes.address)
    while process.poll() is None and not has_newer(results, "run.toml", since):
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate()
    assert process.returncode == 130, output
    assert "from step" in output
    assert "stopped; the same command resumes from here" in output
    assert has_newer(results, "checkpoints/*.json", since)
    files, _ = made(results, rare, "--cluster", nodes.address)
    assert files == longer


@needs_ray
def test_a_work_unit_keeps_its_core_while_it_sends_messages(nodes: Nodes) -> None:
    """Ray gives the core of a waiting task to another one, which must not happen to a unit."""
    import ray

    class Busy(node.Board):
        def put(self, unit: int, messages: Sequence[Any]) -> bool:
            time.sleep(0.5)
            return super().put(unit, messages)

    def unit(board: Any, number: int) -> tuple[float, float]:
        link, began = node.Link(ray, board, number), time.time()
        time.sleep(2 * node.EVERY)
        link.close()
        return began, time.time()

    ray.init(address=nodes.address, log_to_driver=False)
    try:
        board = ray.remote(Busy).options(num_cpus=0).remote()
        task = ray.remote(unit).options(num_cpus=1)
        times = ray.get([task.remote(board, number) for number in range(6)])
    finally:
        ray.shutdown()
    for began, _ in times:
        assert sum(start <= began < end for start, end in times) <= 2  # a core each


# Agent that ends its own process.
CRASH = """
import os
from mujoco_sail.agents.sac import SAC


class Crash(SAC):
    def learn_step(self, step):
        if step == 100:
            os._exit(1)
        super().learn_step(step)
"""


def test_a_unit_that_ends_its_process_is_reported_and_others_complete(
    nodes: Nodes, tmp_path: Path
) -> None:
    (tmp_path / "crash.py").write_text(CRASH)
    (tmp_path / "crash.toml").write_text('title = "x"\nbase = "sac"\nclass = "crash:Crash"\n')
    options = ["--env", "half_cheetah", "--agents", f"{tmp_path}/crash.toml,sac", "--seeds", "1"]
    options += ["--protocol", "quick", "--results", str(tmp_path / "results"), "--device", "cpu"]
    done = subprocess.run(
        [*PROGRAM, "run", *options, *overrides(TINY), "--cluster", nodes.address],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1, done.stdout + done.stderr
    failed = [line for line in done.stderr.splitlines() if line.startswith("mujoco-sail: ")]
    assert len(failed) == 1
    assert failed[0].startswith("mujoco-sail: failed: half_cheetah: crash seed 0: ")
    assert (tmp_path / "results/half_cheetah/sac/seed_0/evaluations.csv").exists()


# --- errors before training ---


@needs_ray
@pytest.mark.parametrize("address", ["127.0.0.1:9", "nonsense"])
def test_an_address_without_a_cluster_gives_a_one_line_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], address: str
) -> None:
    results = tmp_path / "results"
    arguments = ("--env", "half_cheetah", "--results", str(results), "--cluster", address)
    assert f"--cluster {address}: " in fails(capsys, "run", *arguments)
    assert not results.exists()


def test_without_ray_the_error_names_the_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)  # type: ignore[arg-type]
    arguments = ("--env", "half_cheetah", "--results", str(tmp_path / "r"), "--cluster", "auto")
    assert "pip install 'mujoco-sail[cluster]'" in fails(capsys, "run", *arguments)


def test_an_object_store_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ("--env", "half_cheetah", "--results", "s3://bucket/x", "--cluster", "auto")
    assert "expected a folder that all nodes have mounted" in fails(capsys, "run", *arguments)


# --- division of a grid ---


@pytest.mark.parametrize("places", [1, 2, 6, 50])
def test_a_grid_is_divided_into_as_many_units_as_there_are_places(places: int) -> None:
    specs = [registry.load_spec(name, {}) for name in ("sac", "pebble", "sail")]
    members = [Member(spec, seed) for spec in specs for seed in range(4)]
    todo = [Job(tiny_task(), members, 0, "", ""), Job(tiny_task(), members[:6], 0, "", "")]
    cut = list(grid.stacks_of(todo, places))
    for job in todo:
        mine = [stacks for task, stacks in cut if task is job.task]
        trained = [member for stacks in mine for stack in stacks for member in stack]
        assert trained == job.members
        sizes = [sum(map(len, stacks)) for stacks in mine]
        assert max(sizes) - min(sizes) <= 1
    # At least one unit per environment, at most one per member.
    assert len(cut) == {1: 2, 2: 2, 6: 6, 50: 18}[places]
