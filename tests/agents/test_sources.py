"""Digest of the source of an agent class."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.plugins import AGENT, RECIPE, load, source, write_plugin
from helpers.tiny import tiny_task

from mujoco_sail.agents import registry
from mujoco_sail.agents.base import AgentSpec
from mujoco_sail.results.checkpoint import MemberState
from mujoco_sail.results.pooling import collect
from mujoco_sail.results.write import RunWriter, run_folder, status_of
from mujoco_sail.system.errors import UserError


def test_the_digest_is_computed_from_names_and_texts(tmp_path: Path) -> None:
    """Existing runs can be resumed only if the digest does not change."""
    spec = load(write_plugin(tmp_path, 1))
    texts = {"agent": AGENT, "common": "NUMBER = 1", "late": "MORE = 0"}
    lines = [f"{name} {hashlib.sha256(texts[name].encode()).hexdigest()}\n" for name in texts]
    assert source(spec) == f"sha256:{hashlib.sha256(''.join(lines).encode()).hexdigest()}"


def test_the_digest_covers_the_modules_that_a_plug_in_imports(tmp_path: Path) -> None:
    recipe = write_plugin(tmp_path / "a", 1)
    first = source(load(recipe))
    assert source(load(write_plugin(tmp_path / "b", 1))) == first
    (tmp_path / "a" / "notes.py").write_text("raise ImportError")
    assert source(load(recipe)) == first
    digests = {first}
    for name, text in (("late", "MORE = 1"), ("common", "NUMBER = 3"), ("agent", AGENT + "\n")):
        (tmp_path / "a" / f"{name}.py").write_text(text)
        digests.add(source(load(recipe)))
    assert len(digests) == 4


def test_classes_of_the_suite_have_no_digest() -> None:
    for name in ("sail", "sb3_sac"):
        assert "source" not in registry.resolved(tiny_task(), load(name))["agent"]


def test_the_digest_of_an_installed_class_covers_imported_modules_of_its_package(
    tmp_path: Path,
) -> None:
    script = (
        "import sys; from helpers.plugins import load, source; print(source(load(sys.argv[1])))"
    )
    (tmp_path / "mine.toml").write_text(RECIPE.replace("agent:X", "lab.agent:X"))
    path = [str(Path(__file__).parent.parent), str(tmp_path / "site")]

    def digest() -> str:
        done = subprocess.run(
            [sys.executable, "-c", script, str(tmp_path / "mine.toml")],
            env={**os.environ, "PYTHONPATH": os.pathsep.join([*sys.path, *path])},
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout

    write_plugin(tmp_path / "site" / "lab", 1)
    text = AGENT.replace("import common", "from lab import common")
    (tmp_path / "site" / "lab" / "agent.py").write_text(text)
    first = digest()
    assert first.startswith("sha256:")
    (tmp_path / "site" / "lab" / "late.py").write_text("# no module of the package imports it")
    (tmp_path / "site" / "late.py").write_text("# the package next to it")
    assert digest() == first
    (tmp_path / "site" / "lab" / "common.py").write_text("NUMBER = 20")
    assert digest() != first


def complete_run(results: Path, spec: AgentSpec, seed: int) -> RunWriter:
    task = tiny_task()
    files = RunWriter(run_folder(results, task, spec.name, seed), task, spec, seed, "cpu")
    files.begin(None)
    files.add_evaluation(75, 1.0, 0.0, 1, "", 0)
    files.write_status("complete", 1.0)
    return files


def test_runs_of_different_sources_are_neither_pooled_nor_resumed(tmp_path: Path) -> None:
    old, new = load(write_plugin(tmp_path / "a", 1)), load(write_plugin(tmp_path / "b", 2))
    files = complete_run(tmp_path / "out", old, 0)
    assert status_of(files.folder, tiny_task(), old) == "complete"
    with pytest.raises(UserError, match=r"agent\.source is 'sha256:.* there and 'sha256:"):
        status_of(files.folder, tiny_task(), new)

    files.checkpoints.write(MemberState(75, {}, {}, files.state(0.0)))
    again = RunWriter(files.folder, tiny_task(), new, 0, "cpu")
    with pytest.raises(UserError, match=r"another run: agent\.source"):
        again.checkpoints.read(75)

    complete_run(tmp_path / "out", old, 1)
    assert len(collect(tmp_path / "out")) == 2
    complete_run(tmp_path / "out", new, 2)
    with pytest.raises(UserError, match=r"differ in agent\.source"):
        collect(tmp_path / "out")
