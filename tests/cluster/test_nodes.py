"""Nodes of a cluster that differ from this machine: refused, or all updates are eager."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from helpers.tiny import CPU, tiny_task

from mujoco_sail.agents import registry
from mujoco_sail.cluster import connection, node
from mujoco_sail.system.errors import UserError
from mujoco_sail.training import plan


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
