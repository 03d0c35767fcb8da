"""Versions and backend in results."""

from __future__ import annotations

import sys
from importlib import metadata
from pathlib import Path

import pytest
import torch
from helpers.command_line import run
from helpers.envpool import needs_envpool
from helpers.runs import members_of
from helpers.tiny import CPU, tiny_task

from mujoco_sail.results.pooling import check_poolable, differing
from mujoco_sail.results.read import read
from mujoco_sail.results.versions import OPTIONAL, differ, versions
from mujoco_sail.system.errors import UserError
from mujoco_sail.training.run import Run


@pytest.mark.filterwarnings("error")
def test_versions_name_everything_that_a_result_depends_on():
    found = versions()
    assert set(found) == {
        *("mujoco", "gymnasium", "dm_control", "metaworld", "shimmy"),
        *("stable_baselines3", "torch", "python", "mujoco_sail"),
    }
    # The metadata of a wheel for CUDA lack what the version of the module ends with: +cu130.
    assert torch.__version__.startswith(found["torch"])
    assert found["python"].startswith(f"{sys.version_info.major}.{sys.version_info.minor}")


@needs_envpool
def test_the_backend_is_recorded_and_backends_are_not_pooled(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fast = ("--set", "env.backend=envpool")
    assert run(tmp_path, "half_cheetah", "sac", "0,") == 0
    assert run(tmp_path, "half_cheetah", "sac", "1,", *fast) == 0
    records = [read(tmp_path / "half_cheetah" / "sac" / f"seed_{seed}") for seed in (0, 1)]
    assert [record.table["env"]["backend"] for record in records] == ["gymnasium", "envpool"]
    assert ["envpool" in record.table["versions"] for record in records] == [False, True]
    with pytest.raises(UserError, match=r"differ in env\.backend"):
        check_poolable(records)
    capsys.readouterr()
    assert run(tmp_path, "half_cheetah", "sac", "0,", *fast) == 2
    assert "env.backend is 'gymnasium' there and 'envpool' here" in capsys.readouterr().err


def test_runs_with_other_machine_settings_are_pooled(tmp_path: Path) -> None:
    ways = (("eager", "10.0"), ("compiled", "0.5"))
    for seed, (engine, minutes) in enumerate(ways):
        means = (f"env.engine={engine}", f"env.checkpoint_minutes={minutes}")
        options = [word for setting in means for word in ("--set", setting)]
        assert run(tmp_path, "half_cheetah", "sac", f"{seed},", *options) == 0
    records = [read(tmp_path / "half_cheetah" / "sac" / f"seed_{seed}") for seed in (0, 1)]
    assert [record.table["env"]["engine"] for record in records] == ["eager", "compiled"]
    check_poolable(records)
    assert run(tmp_path, "half_cheetah", "sac", "2", *options) == 0  # both are complete
    again = [read(record.folder) for record in records]
    assert [record.table for record in again] == [record.table for record in records]


def test_mkl_cbwr_is_recorded_and_runs_without_the_record_stay_valid(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MKL_CBWR", "COMPATIBLE")
    assert run(tmp_path, "half_cheetah", "sac", "0,1") == 0
    folders = [tmp_path / "half_cheetah" / "sac" / f"seed_{seed}" for seed in (0, 1)]
    table = folders[0] / "run.toml"
    text = table.read_text()
    recorded = 'mkl_cbwr = "COMPATIBLE"\n'
    assert recorded in text
    table.write_text(text.replace(recorded, ""))  # as it was written before
    check_poolable([read(folder) for folder in folders])
    monkeypatch.setenv("MKL_CBWR", "AUTO")
    capsys.readouterr()
    assert run(tmp_path, "half_cheetah", "sac", "0,1") == 0
    assert recorded in (folders[1] / "run.toml").read_text()  # it was not trained again


def test_versions_include_envpool_only_if_it_is_the_backend(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(metadata, "version", lambda name: f"{name} 1")
    assert "envpool" not in versions()
    assert versions("envpool") == versions() | {"envpool": "envpool 1"}


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    """None of the packages of extras is installed."""
    real = metadata.version

    def version(name: str) -> str:
        if name in OPTIONAL:
            raise metadata.PackageNotFoundError(name)
        return real(name)

    monkeypatch.setattr(metadata, "version", version)


@pytest.mark.usefixtures("bare")
def test_only_installed_packages_are_recorded_and_those_that_all_runs_need_are_asked_for() -> None:
    assert set(versions()) == {"mujoco", "gymnasium", "torch", "python", "mujoco_sail"}


@pytest.mark.usefixtures("bare")
def test_a_run_made_before_an_extra_was_installed_stays_complete_and_is_pooled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Run(tiny_task(), members_of([("sac", 0)]), CPU, tmp_path, print).execute()
    monkeypatch.undo()
    folder = tmp_path / "half_cheetah" / "sac" / "seed_0"
    before = (folder / "run.toml").read_bytes()
    assert run(tmp_path, "half_cheetah", "sac", "2") == 0
    assert (folder / "run.toml").read_bytes() == before
    records = [read(folder.with_name(f"seed_{seed}")) for seed in (0, 1)]
    assert ["dm_control" in record.table["versions"] for record in records] == [False, True]
    check_poolable(records)
    assert differing(*records) == {}


def test_only_a_package_of_an_extra_may_be_named_by_one_of_two_runs_alone() -> None:
    one = {"versions.shimmy": "1", "versions.envpool": "1", "versions.torch": "1"}
    assert not differ("versions.shimmy", one, {})
    assert not differ("versions.shimmy", {}, one)
    assert differ("versions.shimmy", one, {"versions.shimmy": "2"})
    assert differ("versions.envpool", one, {})
    assert differ("versions.torch", {}, one)
    assert not differ("versions.torch", one, one)
