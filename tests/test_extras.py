"""Optional packages: one-line errors if one is missing, and everything that works without them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

import pytest
from helpers.checkout import ROOT
from helpers.command_line import PROGRAM, SMALL, fails
from helpers.environments import task_of
from helpers.envpool import TASKS, needs_envpool
from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from mujoco_sail.environments.factory import make_env, space_sizes
from mujoco_sail.system import packages
from mujoco_sail.system.errors import UserError

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
RUN = ("run", "--seeds", "1", "--protocol", "quick", *SMALL, "--agents")


def names(requirements: Sequence[str], version: str) -> set[str]:
    """Packages installed for a Python version."""
    parsed = [Requirement(each) for each in requirements]
    environment = {"python_version": version, "extra": ""}
    return {
        canonicalize_name(each.name)
        for each in parsed
        if each.marker is None or Marker(str(each.marker)).evaluate(environment)
    }


# --- pyproject.toml ---


@pytest.mark.parametrize("module", packages.EXTRAS)
def test_the_extra_in_a_hint_installs_the_package(module: str) -> None:
    package, extra = packages.EXTRAS[module]
    requirements = PROJECT["optional-dependencies"][extra]
    assert canonicalize_name(package) in names(requirements, "3.11")
    assert canonicalize_name(package) not in names(PROJECT["dependencies"], "3.11")


def test_without_dm_control_its_extra_installs_its_dependencies_except_labmaze() -> None:
    extra = PROJECT["optional-dependencies"]["dm_control"]
    needed = names(metadata.requires("dm_control") or [], "3.13")
    assert "labmaze" in needed
    assert "dm-control" in names(extra, "3.12")
    installed = names([*PROJECT["dependencies"], *extra], "3.13")
    assert not {"dm-control", "labmaze"} & installed
    assert needed - installed == {"labmaze"}


def test_the_hint_for_dm_control_has_the_version_of_the_constraints() -> None:
    (version,) = re.findall(r"dm_control==(\S+)", packages.DM_CONTROL_ALONE)
    assert f"dm_control=={version}\n" in (ROOT / "constraints.txt").read_text()


def test_the_page_lists_every_extra() -> None:
    page = (ROOT / "docs/environments.md").read_text().split("## Extras")[1].split("\n## ")[0]
    rows = [line.split("|")[1] for line in page.splitlines() if line.startswith("| `")]
    listed = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
    assert listed == PROJECT["optional-dependencies"].keys() - {"dev"}
    assert f"`{packages.DM_CONTROL_ALONE}`" in page


# --- errors ---


@pytest.mark.parametrize(
    ("module", "arguments", "where"),
    [
        ("av", ("watch", "hopper", "pair", "--out", "clip.mp4"), "watch"),
        ("jinja2", ("report",), "report"),
        ("av", ("label",), "label"),
        ("starlette", ("label",), "label"),
        ("uvicorn", ("label",), "label"),
        ("h5py", (*RUN, "pebble", "--env", "hopper", "--keep-preferences"), "--keep-preferences"),
        ("metaworld", (*RUN, "pebble", "--env", "hopper,door_open"), "door_open: key 'id'"),
        ("dm_control", (*RUN, "pebble", "--env", "hopper,walker_walk"), "walker_walk: key 'id'"),
        ("shimmy", (*RUN, "pebble", "--env", "walker_walk"), "walker_walk: key 'id'"),
        ("stable_baselines3", (*RUN, "sac,sb3_sac", "--env", "hopper"), "key 'class'"),
        ("stable_baselines3", ("speed", "--device", "cpu"), "--peers sb3"),
        ("ray", (*RUN, "sac", "--env", "hopper", "--cluster", "auto"), "--cluster"),
    ],
)
def test_a_missing_package_gives_a_one_line_error_before_any_run(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    module: str,
    arguments: Sequence[str],
    where: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "mujoco_sail.agents.sb3", raising=False)
    for loaded in [name for name in sys.modules if name.startswith(f"{module}.")]:
        monkeypatch.delitem(sys.modules, loaded)
    monkeypatch.setitem(sys.modules, module, None)  # type: ignore[arg-type]
    said = fails(capsys, *arguments)
    package, extra = packages.EXTRAS[module]
    assert len(said.splitlines()) == 1
    assert where in said
    assert f"needs the package {package} (" in said
    assert f"pip install 'mujoco-sail[{extra}]'" in said
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("minor", "command"),
    [
        (12, "pip install 'mujoco-sail[dm_control]', or"),
        (13, "'mujoco-sail[dm_control]' && pip install --no-deps dm_control==1.0.28, or"),
    ],
)
def test_from_python_3_13_on_dm_control_has_a_separate_installation_command(
    monkeypatch: pytest.MonkeyPatch, minor: int, command: str
) -> None:
    monkeypatch.setitem(sys.modules, "dm_control", None)  # type: ignore[arg-type]
    monkeypatch.setattr(sys, "version_info", (3, minor, 0))
    with pytest.raises(UserError) as caught:
        make_env(task_of("walker_walk"), 0, "train")
    monkeypatch.undo()
    alternative = "pip install 'mujoco-sail[fast]' and --set env.backend=envpool"
    assert str(caught.value).endswith(f"{command} {alternative}")


def test_envpool_is_not_suggested_for_a_task_that_it_does_not_support(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "dm_control", None)  # type: ignore[arg-type]
    with pytest.raises(UserError) as caught:
        make_env(task_of("walker_walk", id="dm_control/finger-spin-v0"), 0, "train")
    assert "envpool" not in str(caught.value)


@pytest.mark.parametrize("module", ["metaworld", "dm_control", "shimmy"])
def test_an_unknown_id_gives_an_error_without_optional_libraries(
    monkeypatch: pytest.MonkeyPatch, module: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)  # type: ignore[arg-type]
    with pytest.raises(UserError, match="no such environment, nearest 'HalfCheetah-v5'"):
        make_env(task_of("hopper", id="HalfCheeta-v5"), 0, "train")


# --- commands that need no optional package ---


@pytest.fixture
def bare(tmp_path: Path) -> dict[str, str]:
    """Environment variables with which a process cannot import optional packages."""
    site = tmp_path / "site"
    site.mkdir()
    for name in packages.EXTRAS.keys() - {"envpool"}:
        error = f"ModuleNotFoundError({f'No module named {name!r}'!r}, name={name!r})"
        (site / f"{name}.py").write_text(f"raise {error}\n")
    path = [str(site), str(ROOT), os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path).rstrip(os.pathsep)}


def done(folder: Path, variables: dict[str, str], *arguments: str) -> str:
    finished = subprocess.run(
        [*PROGRAM, *arguments],
        cwd=folder,
        env=variables,
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    return finished.stdout


def test_a_benchmark_needs_no_optional_package(tmp_path: Path, bare: dict[str, str]) -> None:
    options = ["--protocol", "quick", "--env", "half_cheetah", "--agents", "sac,sail"]
    done(tmp_path, bare, "run", "--seeds", "2", *options, *SMALL)
    assert "| sail " in done(tmp_path, bare, "table", "--baseline", "sac")
    assert "learning_curves.png" in done(tmp_path, bare, "plot", "learning_curves")
    done(tmp_path, bare, "export", "results/half_cheetah/sail/seed_0")
    done(tmp_path, bare, "list")


@needs_envpool
def test_envpool_simulates_dm_control_tasks_without_dm_control(
    tmp_path: Path, bare: dict[str, str]
) -> None:
    options = ["--protocol", "quick", "--env", "walker_walk", "--agents", "pebble"]
    options += ["--seeds", "1", *SMALL, "--set", "env.backend=envpool"]
    done(tmp_path, bare, "run", *options)
    assert (tmp_path / "results/walker_walk/pebble/seed_0/evaluations.csv").is_file()


@needs_envpool
@pytest.mark.parametrize("name", TASKS)
def test_both_backends_have_equal_sizes_of_observations_and_actions(name: str) -> None:
    assert space_sizes(task_of(name, backend="envpool")) == space_sizes(task_of(name))
