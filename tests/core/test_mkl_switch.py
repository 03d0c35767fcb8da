"""Importing the package sets MKL_CBWR for reproducible products, or warns that it is too late."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
import warnings

import pytest

import mujoco_sail
from mujoco_sail.cluster import connection
from mujoco_sail.core import products


def test_the_tests_run_with_the_value_that_the_package_sets() -> None:
    assert os.environ["MKL_CBWR"]
    assert not products.alignment_matters()


@pytest.mark.parametrize("before", ["", "import torch; torch.manual_seed(0); torch.randn(10);"])
def test_importing_sets_the_variable_without_a_warning(before: str) -> None:
    code = f"""{before}
import mujoco_sail, os, sys
assert ("torch" in sys.modules) == {bool(before)}, "not light"
from mujoco_sail.core import products
print(os.environ["MKL_CBWR"], products.alignment_matters())"""
    ended = _python(code)
    assert (ended.stdout, ended.stderr) == ("AUTO False\n", "")


def test_a_variable_set_too_late_gives_a_warning_where_it_matters() -> None:
    ended = _python("""import torch
torch.ones(9, 9) @ torch.ones(9, 9)
import mujoco_sail
from mujoco_sail.core import products
print(products.alignment_matters())""")
    assert ended.stdout == f"{'too late for MKL_CBWR=AUTO' in ended.stderr}\n"


def test_the_warning_depends_on_what_mkl_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MKL_CBWR")
    monkeypatch.setattr(products, "alignment_matters", lambda: True)
    with pytest.warns(RuntimeWarning, match="before mujoco_sail was imported"):
        importlib.reload(mujoco_sail)
    assert os.environ["MKL_CBWR"] == "AUTO"


def test_a_value_set_by_the_user_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MKL_CBWR", "COMPATIBLE")
    monkeypatch.setattr(products, "alignment_matters", lambda: True)
    with warnings.catch_warnings(action="error"):
        importlib.reload(mujoco_sail)
    assert os.environ["MKL_CBWR"] == "COMPATIBLE"


def test_cluster_workers_get_the_value_of_the_main_process() -> None:
    assert connection.VARIABLES["MKL_CBWR"] == os.environ["MKL_CBWR"]


def _python(code: str) -> subprocess.CompletedProcess[str]:
    """Runs code in a new process without MKL_CBWR."""
    unset = {name: value for name, value in os.environ.items() if name != "MKL_CBWR"}
    command = [sys.executable, "-c", code]
    return subprocess.run(command, env=unset, capture_output=True, text=True, check=True)
