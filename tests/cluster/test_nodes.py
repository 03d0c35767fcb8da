"""Nodes of a cluster that differ from this machine: refused, or all updates are eager."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from helpers.runs import members_of
from helpers.tiny import CPU, tiny_task

from mujoco_sail.agents import registry
from mujoco_sail.cluster import connection, node
from mujoco_sail.system.errors import UserError
from mujoco_sail.training import plan
from mujoco_sail.training.messages import Failure
from mujoco_sail.training.run import Run
from mujoco_sail.training.work_unit import WorkUnit


class TwoNodes(connection.Cluster):
    """Cluster of two nodes, of which the second differs in one property."""

    def __init__(self, results: Path, difference: Mapping[str, str]) -> None:
        self.results, self.difference, self.obstacle = results, difference, ""
        self.ray = self  # type: ignore[assignment]

    def nodes(self) -> dict[str, Any]:
        return {name: {"NodeManagerAddress": f"10.0.0.{name}"} for name in ("1", "2")}

    def on(self, function: Any, node_id: str) -> Any:
        self.node_id = node_id
        return self

    def remote(self, probe: Path) -> dict[str, str]:
        found = dict(node.describe(probe))
        return found | self.difference if self.node_id == "2" else found

    def get(self, value: Any) -> Any:
        return value


@pytest.mark.parametrize(
    ("difference", "said"),
    [
        ({"PyTorch": "1.0"}, "node 10.0.0.2 (far) has PyTorch 1.0, here is"),
        ({"Python": "3.0"}, "node 10.0.0.2 (far) has Python 3.0, here is"),
        ({"mujoco_sail": "0.0"}, "node 10.0.0.2 (far) has mujoco_sail 0.0, here is"),
        ({"seen": ""}, "node 10.0.0.2 (far) does not see "),
    ],
)
def test_a_node_with_other_versions_or_folders_is_refused(
    tmp_path: Path, difference: dict[str, str], said: str
) -> None:
    with pytest.raises(UserError, match=re.escape(said)):
        TwoNodes(tmp_path, {"host": "far", **difference})._check()
    TwoNodes(tmp_path, {"host": "far"})._check()
    assert list(tmp_path.iterdir()) == []


def test_a_results_folder_that_is_a_symbolic_link_has_the_same_path_on_the_nodes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ray = SimpleNamespace(init=lambda **_: None, cluster_resources=lambda: {"CPU": 1}, nodes=list)
    monkeypatch.setattr(connection.packages, "load", lambda *_: ray)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    (tmp_path / "disk").mkdir()
    (tmp_path / "shared").symlink_to("disk")
    monkeypatch.chdir(tmp_path)
    for results in (tmp_path / "shared/results", Path("other/../shared/results")):
        assert connection.Cluster("auto", results).results == tmp_path / "shared/results"


def test_a_node_without_a_compiler_makes_all_updates_eager(tmp_path: Path) -> None:
    fit, unfit = (TwoNodes(tmp_path, {"host": "far", "obstacle": text}) for text in ("", "no g++"))
    fit._check()
    unfit._check()
    assert (fit.obstacle, unfit.obstacle) == ("", "node 10.0.0.2 (far): no g++")
    spec, task = registry.load_spec("sac", {}), tiny_task(engine="compiled")
    for nodes, engine in ((fit, "compiled"), (unfit, "eager")):
        where = CPU, tmp_path / "results"
        (job,) = plan.prepare([task], [spec], [0], *where, here=False, obstacle=nodes.obstacle)
        assert job.task.engine == engine
    assert job.engine.startswith("half_cheetah: node 10.0.0.2 (far): no g++, so updates are not")


class FakeRay:
    """Module of Ray, and its handles of one board in this process."""

    def __init__(self) -> None:
        self.exceptions = self
        self.RayError = ConnectionError
        self.board = node.Board()
        self.put = self.node_id = self

    def get_runtime_context(self) -> Any:
        return SimpleNamespace(get_node_id=lambda: "1")

    def remote(self, unit: int, messages: Any) -> Any:
        stop = self.board.put(unit, messages)
        return SimpleNamespace(future=lambda: SimpleNamespace(result=lambda: stop))


def trained_on_a_node(unit: WorkUnit, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Reasons of the failures of a unit."""
    ray = FakeRay()
    monkeypatch.setitem(sys.modules, "ray", ray)  # type: ignore[arg-type]
    node.train(unit, 0, ray)
    return [text.reason for _, text in ray.board.take() if isinstance(text, Failure)]


def test_a_unit_whose_runs_are_complete_ends_without_a_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So a unit ends that starts again after the loss of its node."""
    task, (member,) = tiny_task(), members_of([("sac", 0)])
    Run(task, [member], CPU, tmp_path, lambda _: None).execute()
    unit = WorkUnit(task, [[member]], CPU, tmp_path)
    unit.lock(member).touch()
    assert trained_on_a_node(unit, monkeypatch) == []


def test_a_node_without_the_folder_of_the_command_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unit = WorkUnit(tiny_task(), [members_of([("sac", 0)])], CPU, tmp_path)
    (reason,) = trained_on_a_node(unit, monkeypatch)
    assert "does not share the results folder" in reason
    assert list(tmp_path.rglob("run.toml")) == []
