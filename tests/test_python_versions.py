"""`make` and pip take the Python versions that all libraries have wheels for, and no other."""

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


def put_python(folder: Path, name: str, version: tuple[int, int]) -> None:
    """A program that thinks that it is another Python."""
    script = f"import sys; sys.version_info = {(*version, 0, 'final', 0)}; exec(sys.argv[2])"
    path = folder / "bin" / name
    path.write_text(f"#!{sys.executable}\nimport sys\n{script}\n")
    path.chmod(0o755)


def make(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    assert MAKE
    return subprocess.run(
        [MAKE, "--dry-run", "check", *options],
        cwd=folder,
        env={"PATH": str(folder / "bin")},
        capture_output=True,
        text=True,
        check=False,
    )


def python_of(done: subprocess.CompletedProcess[str]) -> str:
    (name,) = re.findall(r"(\S+) -m venv", done.stdout)
    return str(name)


def test_pip_and_make_agree_on_the_versions() -> None:
    about = tomllib.loads((ROOT / "pyproject.toml").read_text())
    pip = SpecifierSet(about["project"]["requires-python"])
    text = (ROOT / "Makefile").read_text()
    named = {(int(a), int(b)) for a, b in re.findall(r"\((\d), (\d+)\)", text)}
    assert named == {(3, n) for n in range(30) if f"3.{n}.1" in pip} == {(3, 11), (3, 12)}


@pytest.mark.parametrize("version", [(3, 11), (3, 12)])
def test_make_takes_a_python3_that_is_suitable(folder: Path, version: tuple[int, int]) -> None:
    put_python(folder, "python3", version)
    done = make(folder)
    assert done.returncode == 0, done.stderr
    assert python_of(done) == "python3"


@pytest.mark.parametrize("minor", [11, 12])
@pytest.mark.parametrize("other", [(3, 9), (3, 13), (3, 14)])
def test_make_finds_a_suitable_python_beside_another(
    folder: Path, other: tuple[int, int], minor: int
) -> None:
    put_python(folder, "python3", other)
    put_python(folder, f"python3.{minor}", (3, minor))
    done = make(folder)
    assert done.returncode == 0, done.stderr
    assert python_of(done) == f"python3.{minor}"


@pytest.mark.parametrize("options", [[], ["PYTHON=python3"], ["PYTHON=nowhere"], ["PYTHON="]])
def test_make_stops_in_one_line_where_no_python_is_suitable(
    folder: Path, options: list[str]
) -> None:
    put_python(folder, "python3", (3, 13))
    done = make(folder, *options)
    assert done.returncode == 2
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert "Python 3.11 or 3.12 is needed" in line


def test_make_takes_the_python_that_is_named(folder: Path) -> None:
    put_python(folder, "python3", (3, 11))
    put_python(folder, "mine", (3, 12))
    assert python_of(make(folder, "PYTHON=mine")) == "mine"
