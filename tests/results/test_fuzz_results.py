"""Fuzzing of results: each folder is read, or gives an error of one or two lines; no code runs.

`helpers.fuzzing` sets the number of cases.
"""

from __future__ import annotations

import csv
import os
import pickle
from pathlib import Path

import pytest
from helpers.damage import AGENTS, accidents, alike_recipes, damages, spoil, whole, write
from helpers.fuzz_values import mostly, words
from helpers.fuzzing import ask, cases, no_training, workplace
from hypothesis import given
from hypothesis import strategies as st

from mujoco_sail.results.write import CSV_FILES

pytestmark = pytest.mark.usefixtures("coarse")


@cases("results")
@given(
    files=damages,
    format=st.sampled_from(["md", "csv", "latex"]),
    baseline=mostly(st.sampled_from([*AGENTS, "none"]), words),
)
def test_damaged_results_are_compared_or_give_a_user_error(
    files: dict[str, bytes | None], format: str, baseline: str
) -> None:
    with workplace() as here:
        spoil(here / "results", files)
        code, out, _ = ask("table", f"--format={format}", f"--baseline={baseline}")
        if code == 0 and format == "csv":
            assert len(set(map(len, csv.reader(out.splitlines())))) == 1


@cases("resumed results")
@given(files=st.one_of(accidents("run.toml"), alike_recipes()))
def test_a_run_into_damaged_results_continues_or_gives_a_user_error(
    files: dict[str, bytes | None],
) -> None:
    with workplace() as here, no_training(["Hopper-v5"]):
        spoil(here / "results", files)
        arguments = ["--env=hopper", "--agents=sac,pebble", "--seeds=2", "--protocol=quick"]
        ask("run", *arguments, allowed=[here / "results"])


# --- code --------------------------------------------------------------------------------------


class Planted:
    """Object that creates a folder when it is unpickled."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, ("executed",)


PICKLE = pickle.dumps(Planted())


def test_the_planted_pickle_would_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    pickle.loads(PICKLE)
    assert Path("executed").is_dir()


@pytest.mark.parametrize("name", ["run.toml", "evaluations.csv", "feedback.csv", "training.csv"])
@pytest.mark.parametrize("command", ["table", "plot", "run"])
def test_a_pickle_among_the_results_is_not_executed(name: str, command: str) -> None:
    with workplace() as here, no_training(["Hopper-v5"]):
        spoil(here / "results", {f"hopper/sac/seed_0/{name}": PICKLE})
        more = {"plot": ["--out=results"], "run": ["--env=hopper", "--protocol=quick"]}
        code, *_ = ask(command, *more.get(command, []), allowed=[here / "results"])
        unread = {"run": CSV_FILES, "table": ["training.csv"], "plot": []}
        assert code == (0 if name in unread[command] else 2)
        assert not Path("executed").exists()


@pytest.mark.parametrize("kind", ["env", "agents", "plot"])
def test_a_pickle_as_a_recipe_is_an_error_and_is_not_executed(kind: str) -> None:
    with workplace() as here, no_training([]):
        write(here, {"mine.toml": PICKLE})
        write(here / "results", whole())
        run = {"--env": "hopper", "--agents": "sac"} | {f"--{kind}": "mine.toml"}
        arguments = [f"{flag}={name}" for flag, name in run.items()]
        code, _, err = ask(*(["plot", "mine.toml"] if kind == "plot" else ["run", *arguments]))
        assert code == 2
        assert "mine.toml: not valid TOML" in err
        assert not Path("executed").exists()
