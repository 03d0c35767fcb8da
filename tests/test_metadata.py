"""Metadata of the package, citation, badges and public CI agree."""

from __future__ import annotations

import re
import subprocess
import tomllib
from typing import Any

import pytest
import yaml
from helpers.checkout import ROOT
from packaging.specifiers import SpecifierSet

from mujoco_sail import __version__

PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
CITATION: dict[str, Any] = yaml.safe_load((ROOT / "CITATION.cff").read_text())
PYTHONS = [f"3.{n}" for n in range(30) if f"3.{n}.1" in SpecifierSet(PROJECT["requires-python"])]


def badge(name: str) -> str:
    (title,) = re.findall(r"<title>(.*)</title>", (ROOT / f"docs/images/{name}.svg").read_text())
    return str(title)


def test_version_authors_and_licence_agree_with_the_citation() -> None:
    changes = re.findall(r"^## (\d\S*\d)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert PROJECT["version"] == CITATION["version"] == __version__ == changes[0]
    assert PROJECT["authors"] == CITATION["authors"]
    assert PROJECT["license"] == CITATION["license"]


def test_classifiers_and_badges_show_the_supported_versions_and_the_licence() -> None:
    prefix = "Programming Language :: Python :: 3."
    named = [line for line in PROJECT["classifiers"] if line.startswith(prefix)]
    assert named == [f"Programming Language :: Python :: {version}" for version in PYTHONS]
    assert badge("python") == f"Python: {' | '.join(PYTHONS)}"
    assert badge("licence") == f"Licence: {PROJECT['license']}"


def test_secrets_and_open_questions_are_not_published_but_answers_are() -> None:
    run = "results/walker_walk/pebble/seed_0/questions"
    files = ["results/.label_token", f"{run}/session_0_0.npz", f"{run}/answers.jsonl"]
    words = ["git", "check-ignore", "--no-index", *files]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode == 128:
        pytest.skip("not a Git repository")
    assert done.stdout.splitlines() == files[:2]


def test_public_ci_runs_all_checks_on_every_supported_version() -> None:
    workflow = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())
    (job,) = workflow["jobs"].values()
    assert job["strategy"]["matrix"]["python"] == PYTHONS
    assert [step["run"] for step in job["steps"] if "run" in step][-1] == ".ci/run"
    commands = (ROOT / ".ci/run").read_text().splitlines()
    assert {"make check", "make docs", "make test"} <= set(commands)
