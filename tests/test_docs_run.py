"""Examples of the README and the pages in docs/ run with an installed wheel."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path

import pytest
from helpers.checkout import ROOT, build_wheel
from helpers.pages import BLOCKS, COMMANDS, TINY_RUN
from helpers.tiny import TINY


@dataclass(frozen=True)
class Installed:
    folder: Path  # initially empty
    environment: dict[str, str]

    def does(self, line: str, *more: str) -> str:
        words, place = [*shlex.split(line), *more], {"cwd": self.folder, "env": self.environment}
        done = subprocess.run(words, **place, capture_output=True, text=True, check=False)  # type: ignore[call-overload]
        assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
        return str(done.stdout)


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    home = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "install", "--no-deps", "--no-index"]
    pip += ["--target", str(home / "site"), str(build_wheel(home))]
    subprocess.run(pip, check=True, capture_output=True)
    packages = {path.name for path in (home / "site").iterdir() if path.suffix != ".dist-info"}
    assert packages == {"bin", "mujoco_sail"}
    assert (home / "site/mujoco_sail/analysis/report.html.jinja").is_file()
    path = f"{home / 'site/bin'}{os.pathsep}{os.environ['PATH']}"
    empty = home / "empty"
    empty.mkdir()
    suite = Installed(empty, {**os.environ, "PYTHONPATH": str(home / "site"), "PATH": path})
    where = suite.does(sys.executable, "-c", "import mujoco_sail; print(mujoco_sail.__file__)")
    assert Path(where.strip()).is_relative_to(home / "site")
    return suite


def commands_of(page: str, pattern: str) -> list[str]:
    return [line for where, line in COMMANDS if where == page and re.search(pattern, line)]


def write_files(folder: Path, *names: str) -> None:
    for name in names:
        (text,) = (block.text for block in BLOCKS if block.file == name)
        (folder / name).write_text(text)


def test_the_demo_export_and_python_example_of_the_readme_run(installed: Installed) -> None:
    """Shortened commands of `make demo`, and the examples of the README with its runs."""
    make = subprocess.check_output(["make", "-n", "demo"], cwd=ROOT, text=True)
    printed = re.sub(r"\\\n\s*", " ", make)
    demo, table, plot = re.findall(r"^\.venv/bin/(mujoco-sail .*)$", printed, re.MULTILINE)
    installed.does(demo, *TINY_RUN)
    assert "| sail_revkl |" in installed.does(table)
    installed.does(plot)
    assert (installed.folder / "demo/learning_curves.png").is_file()
    for page in ("README.md", "policies.md"):
        (export,) = commands_of(page, " export ")
        installed.does(export)
        assert len(commands_of(page, " watch ")) == 1  # slow; parsed in test_docs.py
    of_readme = (b for b in BLOCKS if (b.page, b.kind, b.file) == ("README.md", "python", ""))
    (code,) = (block.text for block in of_readme)
    check = "assert env.observation_space.contains(observation)"
    installed.does(sys.executable, "-c", f"{code}\n{check}")


def test_the_agent_example_of_the_readme_trains(installed: Installed) -> None:
    write_files(installed.folder, "calm.py", "calm.toml")
    written = [(installed.folder / name).read_text() for name in ("calm.py", "calm.toml")]
    assert sum(text.count("\n") for text in written) < 40
    (line,) = commands_of("README.md", "calm.toml")
    installed.does(line, *TINY_RUN)
    training = set()
    for agent in ("pebble", "calm"):
        run = installed.folder / f"results/walker_stand/{agent}/seed_0"
        assert tomllib.loads((run / "run.toml").read_text())["status"] == "complete"
        training.add((run / "training.csv").read_text())
    assert len(training) == 2
    assert "| calm " in installed.does("mujoco-sail table")


def test_the_environment_example_of_its_page_trains(installed: Installed) -> None:
    write_files(installed.folder, "finger_spin.toml")
    (line,) = commands_of("environments.md", "finger_spin.toml .*quick")
    installed.does(line, *TINY_RUN, "--agents", "pebble")
    assert (installed.folder / "results/finger_spin/pebble/seed_0/evaluations.csv").is_file()


def test_the_example_of_the_python_page_runs(
    installed: Installed,
) -> None:
    """The lines of the page with smaller runs; workers do not run them."""
    (code,) = (block.text for block in BLOCKS if block.page == "python.md")
    small = (
        "import mujoco_sail\n"
        f"TINY = { ({f'env.{key}': value for key, value in TINY.items()})!r}\n"
        "def small(*names, train=mujoco_sail.train, overrides, **options):\n"
        "    options |= {'seeds': 2, 'device': 'cpu', 'overrides': overrides | TINY}\n"
        "    return train(*names, **options)\n"
        "mujoco_sail.train = small\n"
    )
    (installed.folder / "example.py").write_text(small + code)
    printed = installed.does(f"{sys.executable} example.py")
    assert re.search(r"walker_stand +sail +2 ", printed)
    assert "SAIL" in printed.splitlines()[-1]
    assert (installed.folder / "curves.png").is_file()


def test_the_command_of_the_theory_page_runs(installed: Installed) -> None:
    (line,) = commands_of("theory.md", "")
    shown = installed.does(line, "--seeds", "2", "--samples", "1000", "--gammas", "0.3")
    for heading in ("claim", "measured", "holds", "one step", "disagreement"):
        assert heading in shown
    assert {path.name for path in (installed.folder / "theory").iterdir()} == {
        *(f"{name}.{kind}" for name in ("theory", "truncation") for kind in ("png", "svg")),
        *("bias.csv", "convergence.csv", "curvature.csv"),
        *("picking.csv", "pl_ratio.csv", "truncation.csv"),
    }
    bias = (installed.folder / "theory/bias.csv").read_text().splitlines()
    gamma = bias[0].split(",").index("gamma")
    assert {float(row.split(",")[gamma]) for row in bias[1:]} == {0.0, 0.3}
