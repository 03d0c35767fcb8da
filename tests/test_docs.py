"""Links, paths, commands and tables of the README, CONTRIBUTING.md and docs/ are correct.

Every fenced block has a kind: `sh` is run or, if that takes too long, parsed; `python` and `toml`
are files, or lines of an existing file; `text` is an equation or the list of commands.
"""

from __future__ import annotations

import argparse
import os
import pkgutil
import re
import shlex
import subprocess
import tomllib
from pathlib import Path

import pytest
from helpers.checkout import ROOT
from helpers.pages import BLOCKS, CODE, COMMANDS, PAGES, SUITE, prose

from mujoco_sail import cli
from mujoco_sail.agents import registry
from mujoco_sail.recipes.load import recipe_names
from mujoco_sail.speed.command import check as check_speed

HOMES = (ROOT, ROOT / "mujoco_sail", ROOT / "mujoco_sail/agents")
PAPER = ("walker_walk", "walker_stand", "cheetah_run", "door_open")
KINDS = ("sh", "python", "toml", "text")
# Files of the examples, and of run folders.
ELSEWHERE = {"finger_spin.toml", "run.toml", "policy.toml", "walker.toml"}
ELSEWHERE |= {"calm.py", "calm.toml", "huber.py", "huber.toml"}  # plug-ins


# --- content of the pages ---


def test_the_readme_is_short_and_links_to_every_page() -> None:
    text = PAGES[0].read_text()
    assert len(text.splitlines()) <= 150
    for page in PAGES[1:]:
        assert f"]({page.relative_to(ROOT)})" in text


def test_the_tables_of_the_readme_name_every_agent_and_environment() -> None:
    section = PAGES[0].read_text().split("## Agents and environments")[1].split("\n## ")[0]
    rows = [line.split("|")[1:3] for line in section.splitlines() if "`" in line]
    named = {name for row in rows for cell in row for name in CODE.findall(cell)}
    assert named == set(recipe_names("agents")) | set(recipe_names("envs"))


@pytest.mark.parametrize("page", PAGES[1:], ids=lambda page: page.name)
def test_a_page_begins_with_a_question(page: Path) -> None:
    paragraph = page.read_text().split("\n\n")[1]
    assert re.match(r"[A-Z][^.?]*\?", paragraph)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_and_paths_exist(page: Path) -> None:
    text = prose(page)
    links = [link for link in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in link]
    missing = [link for link in links if not (page.parent / link.partition("#")[0]).exists()]
    for code in CODE.findall(text):
        if re.fullmatch(r"(?:[\w.]+/)+[\w.-]*", code):  # `mujoco_sail/` may be omitted
            recipes = [ROOT / kind / f"{code}.toml" for kind in ("envs", "agents")]
            there = any(path.exists() for path in (*recipes, *(home / code for home in HOMES)))
            missing += [] if there else [code]
        elif re.fullmatch(r"\w+\.(?:py|toml|md|cff)", code) and code not in ELSEWHERE:
            missing += [] if any(any(home.glob(f"*/{code}")) for home in HOMES) else [code]
        elif re.fullmatch(r"mujoco_sail(?:\.\w+)+(?::\w+)?", code):
            assert pkgutil.resolve_name(code)
    assert missing == []


def test_the_table_of_subpackages_equals_the_layers_of_import_linter() -> None:
    section = (ROOT / "CONTRIBUTING.md").read_text().split("## Package layout")[1].split("\n## ")[0]
    rows = [CODE.findall(line.split("|")[1]) for line in section.splitlines() if "| `" in line]
    table = [" | ".join(name.strip("/") for name in row) for row in rows]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    layers = project["tool"]["importlinter"]["contracts"][0]["layers"]
    assert ["__main__", "cli", *table] == layers


def test_fenced_blocks_have_a_known_kind_and_files_have_a_name() -> None:
    assert {(block.page, block.kind) for block in BLOCKS if block.kind not in KINDS} == set()
    assert [block for block in BLOCKS if block.kind == "toml" and not block.file] == []
    texts = {block.page: block.text for block in BLOCKS if block.kind == "text"}
    # List of commands, diagram of an update, files of a cluster, a line of output, equations.
    assert set(texts) == {"agents.md", "command_line.md", "cluster.md", "speed.md", "theory.md"}
    files = [block for block in BLOCKS if "/" in block.file]
    for block in files:
        real = (ROOT / block.file).read_text().splitlines()
        assert [line for line in block.text.splitlines() if line not in real] == []
    assert len(files) == 1


def test_the_list_of_commands_is_complete_and_has_only_existing_options() -> None:
    here = ("command_line.md", "text")
    (text,) = (block.text for block in BLOCKS if (block.page, block.kind) == here)
    listed = dict(
        re.match(r"mujoco-sail (\w+)(.*)", line, re.DOTALL).groups()  # type: ignore[union-attr]
        for line in re.split(r"\n(?=mujoco-sail)", text)
    )
    actions = cli._parser()._actions
    (commands,) = (a.choices for a in actions if isinstance(a, argparse._SubParsersAction))
    assert set(listed) == set(commands)
    for name, options in listed.items():
        known = {flag for action in commands[name]._actions for flag in action.option_strings}
        assert set(re.findall(r"--[\w-]+", options)) <= known
        if name not in ("theory", "speed"):  # the page has only some options of these
            assert known - set(re.findall(r"--[\w-]+", options)) <= {"-h", "--help"}


@pytest.mark.parametrize("line", sorted(set(SUITE)))
def test_commands_of_the_suite_can_be_parsed(line: str) -> None:
    args = cli._parser().parse_args(shlex.split(line)[1:])
    if args.command.__module__ == "mujoco_sail.speed.command":
        check_speed(args)


def test_settings_exist_in_the_recipes() -> None:
    found = {
        (page.name == "language.md", word)
        for page in PAGES
        for word in re.findall(r"--set ((?:env|agent)\.[^\s`]+)", prose(page))
    }
    assert len(found) > 6
    for of_texts, word in found:
        if of_texts:
            registry.load("language/echo", "language/sail_lm", "quick", [word], "noisy+skip")
        else:
            registry.load("walker_walk", "pebble,sail,sail_revkl", "quick", [word], "noisy+skip")


def test_the_environment_recipes_of_the_paper_are_executable(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The commands take days, so an unknown key stops them after all other options are checked."""
    lines = [shlex.split(line) for _, line in COMMANDS if line.startswith("./envs/")]
    assert [script for script, *_ in lines] == [f"./envs/{name}.toml" for name in PAPER]
    for script, *options in lines:
        assert os.access(ROOT / script, os.X_OK)
        with (ROOT / script).open() as file:
            assert file.readline() == "#!/usr/bin/env -S mujoco-sail run --env\n"
        words = ["run", "--env", str(ROOT / script), *options, "--set", "env.none_such=1"]
        assert cli.main(words) == 2
        assert "unknown key 'none_such'" in capsys.readouterr().err


def test_all_other_commands_are_known() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    others = {line for _, line in COMMANDS if not re.match(r"mujoco-sail |\./envs/", line)}
    assert others == {
        ". .venv/bin/activate",
        "make check",
        "make demo",
        "make docs",
        "make quick",
        "make test",
        "pytest -m survive",
        "pytest tests/agents/test_surf.py",
        "ray start --head --port=6379 --num-cpus=1",
        "ray start --address=127.0.0.1:6379 --num-cpus=1",
        "ray stop",
        "study/search.sh",
        "python study/calibration.py",
        "python study/confirmation_tables.py results",
        "python study/dataset.py results/dataset",
        "python study/dose_tables.py results",
        "python study/language_curvature.py",
        "python study/language_study.py results/language",
        "python study/controls_table.py results/controls",
        "python study/scores.py",
        "pip install --constraint constraints.txt --editable '.[cluster]'",
        "pip install --constraint constraints.txt --editable '.[fast]'",
        "pip install --constraint constraints.txt --editable '.[human,dm_control]'",
        "pip install --constraint constraints.txt --editable '.[language]'",
        "pip install --constraint constraints.txt --editable '.[peers]'",
        "pip install --constraint constraints.txt --editable '.[tensorboard]'",
    }
    assert {"fast", "peers"} <= set(project["project"]["optional-dependencies"])
    markers = project["tool"]["pytest"]["ini_options"]["markers"]
    assert "survive" in [marker.partition(":")[0] for marker in markers]
    for target in ("demo", "test", "quick", "check", "docs"):
        subprocess.run(["make", "-n", target], cwd=ROOT, check=True, capture_output=True)


def test_tables_of_published_runs_equal_the_output_of_their_commands(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A page may omit columns, but nothing else."""
    monkeypatch.chdir(ROOT)
    printed, verdicts = [], []
    for line in {line for line in SUITE if line.startswith("mujoco-sail table --results results/")}:
        assert cli.main(shlex.split(line)[1:]) == 0
        text = capsys.readouterr().out
        printed += tables(text)
        verdicts += re.findall(r"^- .* SAIL(?:-RevKL)? and PEBBLE .*$", text, re.MULTILINE)
    for page, section in (("docs/agents.md", ""), ("docs/study.md", "## Choos")):
        text = (ROOT / page).read_text()
        shown = tables(text.partition(section)[0] if section else text)
        shown = [table for table in shown if any("interval" in name for name in table[0])]
        assert shown
        for table in shown:
            assert any(table == columns(whole, table[0]) for whole in printed)
    assert len(verdicts) == 2
    assert {*verdicts} <= {*PAGES[0].read_text().splitlines()}


def tables(text: str) -> list[list[list[str]]]:
    """Cells of all markdown tables, without the line below the header."""
    found = re.findall(r"(?:^\|.*\|\n?)+", text, re.MULTILINE)
    rows = [[re.split(r" *\| *", row)[1:-1] for row in table.splitlines()] for table in found]
    return [[table[0], *table[2:]] for table in rows]


def columns(table: list[list[str]], names: list[str]) -> list[list[str]]:
    """Columns of a table by name; empty if one is missing."""
    if not {*names} <= {*table[0]}:
        return []
    return [[row[table[0].index(name)] for name in names] for row in table]
