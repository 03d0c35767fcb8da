"""Python versions that `make` and pip accept: those for which all libraries have wheels."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.specifiers import SpecifierSet

ROOT = Path(__file__).resolve().parent.parent
MAKE = shutil.which("make")
SUITABLE = (11, 12, 13)
UNSUITABLE = [(3, 9), (3, 14)]

pytestmark = pytest.mark.skipif(MAKE is None, reason="there is no make")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A checkout without a virtual environment, on a machine without Python."""
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / "bin").mkdir()
    for tool in ("sh", "touch"):
        (tmp_path / "bin" / tool).symlink_to(shutil.which(tool) or "")
    return tmp_path


def put_python(folder: Path, name: str, version: tuple[int, int], *lacks: str) -> None:
    """Creates a program that simulates another Python version without some modules."""
    script = f"""
import runpy, sys
sys.version_info = {(*version, 0, "final", 0)}
sys.modules.update(dict.fromkeys({lacks}))
if sys.argv[1] == "-c":
    exec(sys.argv[2])
elif sys.argv[2] in {lacks}:
    sys.exit(1)
"""
    put(folder, name, f"#!{sys.executable}\n{script}")


def put(folder: Path, name: str, script: str) -> None:
    path = folder / "bin" / name
    path.write_text(script)
    path.chmod(0o755)


def make(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    assert MAKE
    return subprocess.run(
        [MAKE, *options, "check"],
        cwd=folder,
        env={"PATH": str(folder / "bin")},
        capture_output=True,
        text=True,
        check=False,
    )


def planned(folder: Path, *options: str) -> str:
    """Commands that `make` would run."""
    done = make(folder, "--dry-run", *options)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


def python_of(commands: str) -> str:
    (name,) = re.findall(r"(\S+) -m venv", commands)
    return str(name)


# --- choice of Python ---


def test_pip_make_and_uv_agree_on_the_versions() -> None:
    about = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    text = (ROOT / "Makefile").read_text()
    (named,) = re.findall(r"^PYTHONS := (.*)$", text, re.MULTILINE)
    (for_uv,) = re.findall(r"--python '(\S+)'", text)
    expected = {f"3.{minor}" for minor in SUITABLE}
    assert set(named.split()) == expected
    for specifier in (for_uv, about["requires-python"]):
        accepted = SpecifierSet(specifier)
        assert {f"3.{n}" for n in range(30) if f"3.{n}.1" in accepted} == expected
    for page in ("README.md", "Makefile"):
        assert "Python 3.11, 3.12 or 3.13" in (ROOT / page).read_text()


@pytest.mark.parametrize("minor", SUITABLE)
def test_make_uses_a_suitable_python3(folder: Path, minor: int) -> None:
    put_python(folder, "python3", (3, minor))
    assert python_of(planned(folder)) == "python3"


@pytest.mark.parametrize("minor", SUITABLE)
@pytest.mark.parametrize("other", UNSUITABLE)
def test_make_finds_a_suitable_python_among_others(
    folder: Path, other: tuple[int, int], minor: int
) -> None:
    put_python(folder, "python3", other)
    put_python(folder, f"python3.{minor}", (3, minor))
    put(folder, "uv", "#!/bin/sh\n")
    assert python_of(planned(folder)) == f"python3.{minor}"


def test_make_uses_the_given_python(folder: Path) -> None:
    put_python(folder, "python3", (3, 11))
    put_python(folder, "mine", (3, 12))
    assert python_of(planned(folder, "PYTHON=mine")) == "mine"


@pytest.mark.parametrize("named", ["python3", "nowhere"])
def test_an_unsuitable_given_python_is_a_one_line_error(folder: Path, named: str) -> None:
    put_python(folder, "python3", (3, 14))
    put(folder, "uv", "#!/bin/sh\n")
    done = make(folder, f"PYTHON={named}")
    assert done.returncode == 2
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert f"PYTHON={named} names none of these Pythons" in line


def test_an_existing_environment_is_kept(folder: Path) -> None:
    (folder / ".venv").mkdir()
    (folder / ".venv/bin").symlink_to(folder / "bin")
    put_python(folder, "python", (3, 12))
    put_python(folder, "python3", (3, 11))
    commands = planned(folder)
    assert " -m venv" not in commands
    assert ".venv/bin/python -m pip install" in commands


# --- no suitable Python ---

UV = "venv --seed --python '>=3.11,<3.14' .venv"


@pytest.mark.parametrize("version", [None, *UNSUITABLE])
def test_uv_installs_a_python_if_none_is_suitable(
    folder: Path, version: tuple[int, int] | None
) -> None:
    if version:
        put_python(folder, "python3", version)
    put(folder, "uv", "#!/bin/sh\n")
    commands = planned(folder)
    assert f" uv {UV}" in commands
    assert "--target .uv" not in commands


def test_uv_creates_the_environment_if_python_lacks_pip(folder: Path) -> None:
    """Debian's Python has neither pip nor ensurepip by default."""
    put_python(folder, "python3", (3, 13), "pip", "ensurepip")
    put(folder, "uv", "#!/bin/sh\n")
    assert f" uv {UV}" in planned(folder)


@pytest.mark.parametrize("version", UNSUITABLE)
def test_pip_of_an_unsuitable_python_installs_uv(folder: Path, version: tuple[int, int]) -> None:
    put_python(folder, "python3", version)
    commands = planned(folder)
    assert "python3 -m pip install --quiet --target .uv uv && " in commands
    assert f" .uv/bin/uv {UV}" in commands


@pytest.mark.parametrize("version", [None, *UNSUITABLE, (3, 13)])
def test_without_any_way_to_get_python_make_gives_a_one_line_error(
    folder: Path, version: tuple[int, int] | None
) -> None:
    if version:
        put_python(folder, "python3", version, "pip", "ensurepip")
    done = make(folder)
    assert done.returncode == 2
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert "Python 3.11, 3.12 or 3.13 with venv and pip is needed, or uv" in line
    assert "none of them is here" in line


def test_a_failure_of_uv_is_reported(folder: Path) -> None:
    put(folder, "uv", "#!/bin/sh\necho 'error: no network' >&2\nexit 2\n")
    (folder / "bin/rm").symlink_to(shutil.which("rm") or "")
    done = make(folder, "--silent")
    assert done.returncode == 2
    why, ours, _ = done.stderr.splitlines()
    assert why == "error: no network"
    assert ours == "make: uv could bring none of Python 3.11 3.12 3.13, see above; install one"
