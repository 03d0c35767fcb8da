"""Whatever lies in a results folder, it is read, or refused in one or two lines; it never runs.

How many cases there are, and how to hunt with more: see `fuzzing`.
"""

from __future__ import annotations

import contextlib
import copy
import csv
import functools
import math
import os
import pickle
import tempfile
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
import tomli_w
from fuzzing import (
    FLOATS,
    HUGE,
    ask,
    cases,
    damaged,
    documents,
    mostly,
    no_training,
    texts,
    values,
    words,
    workplace,
)
from hypothesis import given
from hypothesis import strategies as st

from mujoco_sail.agents import registry
from mujoco_sail.analysis import figures, stats
from mujoco_sail.preferences.sessions import Query
from mujoco_sail.recipes.load import load_task, read_recipe
from mujoco_sail.results.write import RunWriter, run_folder

AGENTS = ("sac", "pebble")
SEEDS = (0, 1)


@functools.cache
def whole() -> dict[str, bytes]:
    """The files of two agents with two seeds, as training writes them."""
    task = load_task("hopper", "quick", {})
    with tempfile.TemporaryDirectory() as root:
        for name in AGENTS:
            for seed in SEEDS:
                entry = registry.load_entry(name, {})
                folder = run_folder(Path(root), task, name, seed)
                files = RunWriter(folder, task, entry, seed, "cpu")
                files.begin(None)
                for step in (100, 200, 300):
                    files.evaluation(step, seed + step / 7, 0.5, 2, "", 2)
                    files.training({"step": step, "critic_loss": 0.1, "entropy": math.nan}, 1.0)
                asked = [Query(50, 0, 1.5, 2.0, 1.0), Query(60, 1, 2.5, 2.0, None)]
                files.feedback(asked if name == "pebble" else [])
                files.status("complete", 1.5)
        paths = [path for path in Path(root).rglob("*") if path.is_file()]
        return {str(path.relative_to(root)): path.read_bytes() for path in paths}


def write(folder: Path, files: dict[str, bytes]) -> None:
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)


@pytest.fixture(autouse=True, scope="module")
def _fast() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stats, "RESAMPLES", 100)
        patch.setattr(figures, "DOTS_PER_INCH", 20)
        yield


# --- damage ------------------------------------------------------------------------------------

CELLS = st.one_of(
    st.sampled_from(["", "nan", "skip", "True", "1_0", "0x1", "1+2j", '"', '"a\nb"', "2020-01-01"]),
    st.sampled_from(["1e30", "1e308", "-1e308", "1e400", "9" * 400, "9" * 20, "1e-320", " 1", "٣"]),
    st.sampled_from([*map(repr, FLOATS), *map(str, HUGE)]),
    st.floats().map(repr),
    st.integers().map(str),
    texts,
)


@st.composite
def spreadsheets(draw: st.DrawFn, data: bytes) -> bytes:
    """A CSV file after up to two edits of cells, rows or columns."""
    rows = [line.split(",") for line in data.decode().splitlines()]
    for _ in range(draw(st.integers(1, 2))):
        row = draw(st.integers(0, len(rows) - 1))
        column = draw(st.integers(0, 5))
        match draw(st.sampled_from(["cell", "cell", "column", "drop", "twice", "row", "swap"])):
            case "cell":
                rows[row][column:] = [draw(CELLS), *rows[row][column + 1 :]]
            case "column":
                rows[1:] = [
                    [*cells[:column], draw(CELLS), *cells[column + 1 :]] for cells in rows[1:]
                ]
            case "drop":
                rows = [cells[:column] + cells[column + 1 :] for cells in rows]
            case "twice":
                rows = [cells[: column + 1] + cells[column:] for cells in rows]
            case "row":
                rows.insert(row, rows[row])
            case "swap":
                rows.append(rows.pop(row))
    return "\n".join([*map(",".join, rows), ""]).encode()


@st.composite
def runs(draw: st.DrawFn) -> bytes:
    """A `run.toml` of any status after edits."""
    table = tomllib.loads(whole()["hopper/sac/seed_0/run.toml"].decode())
    status = draw(st.sampled_from(["complete", "running", "failed", "ended"]))
    table |= {"status": status} | ({"failure": draw(texts)} if status != "complete" else {})
    return draw(documents([table]))


@st.composite
def accidents(draw: st.DrawFn, kind: str = "") -> dict[str, bytes | None]:
    """One or two files of the results with their new content, or None for a folder instead.

    Args:
        draw: Hypothesis's.
        kind: Part of the names of the files that may be hit.
    """
    files: dict[str, bytes | None] = {}
    for _ in range(draw(st.integers(1, 2))):
        name = draw(st.sampled_from([name for name in sorted(whole()) if kind in name]))
        data = st.just(whole()[name])
        near = runs() if name.endswith("toml") else spreadsheets(whole()[name])
        files[name] = draw(st.one_of(near, near, near, damaged(near), damaged(data), st.none()))
    return files


@st.composite
def alike_recipes(draw: st.DrawFn) -> dict[str, bytes]:
    """Every `run.toml`, with the same wrong value: such runs may be pooled."""
    files = {name: tomllib.loads(data.decode()) for name, data in whole().items() if "run." in name}
    scope = draw(st.sampled_from(["env", "agent", "versions"]))
    key = draw(st.one_of(st.sampled_from(["protocol", "teacher", "mujoco"]), texts))
    value = draw(st.one_of(texts, values))
    for table in files.values():
        table[scope][key] = copy.deepcopy(value)
    return {name: tomli_w.dumps(table).encode() for name, table in files.items()}


@st.composite
def alike_curves(draw: st.DrawFn) -> dict[str, bytes]:
    """Every `evaluations.csv`, with the same column of numbers."""
    column = draw(st.integers(0, 5))
    numbers = draw(st.lists(CELLS, min_size=3, max_size=3))
    with contextlib.suppress(ValueError):
        numbers = sorted(numbers, key=float)  # steps increase
    files = {}
    for name, data in whole().items():
        if "evaluations" in name:
            head, *rows = [line.split(",") for line in data.decode().splitlines()]
            for row, number in zip(rows, numbers, strict=True):
                row[column] = number
            files[name] = "\n".join(map(",".join, [head, *rows])).encode()
    return files


damages = st.one_of(accidents(), accidents(), alike_recipes(), alike_curves())


def spoil(folder: Path, files: dict[str, bytes | None]) -> None:
    write(folder, whole())
    for name, data in files.items():
        if data is None:
            (folder / name).unlink()
            (folder / name).mkdir()
        else:
            (folder / name).write_bytes(data)


# --- commands ----------------------------------------------------------------------------------


@cases("results")
@given(
    files=damages,
    format=st.sampled_from(["md", "csv", "latex"]),
    baseline=mostly(st.sampled_from([*AGENTS, "none"]), words),
)
def test_damaged_results_are_compared_or_refused(
    files: dict[str, bytes | None], format: str, baseline: str
) -> None:
    with workplace() as here:
        spoil(here / "results", files)
        code, out, _ = ask("table", f"--format={format}", f"--baseline={baseline}")
        if code == 0 and format == "csv":
            assert len(set(map(len, csv.reader(out.splitlines())))) == 1


@cases("figures")
@given(files=damages)
def test_damaged_results_are_drawn_or_refused(files: dict[str, bytes | None]) -> None:
    with workplace() as here:
        spoil(here / "results", files)
        code, out, _ = ask("plot", "--out=drawn", allowed=[here / "drawn"])
        assert len(out.splitlines()) == (0 if code else 2)


@cases("resumed results")
@given(files=st.one_of(accidents("run.toml"), alike_recipes()))
def test_a_run_into_damaged_results_goes_on_or_is_refused(files: dict[str, bytes | None]) -> None:
    with workplace() as here, no_training(["Hopper-v5"]):
        spoil(here / "results", files)
        arguments = ["--env=hopper", "--agents=sac,pebble", "--seeds=2", "--protocol=quick"]
        ask("run", *arguments, allowed=[here / "results"])


FIGURE = read_recipe("plots", "learning_curves")[1]
FIGURES = [
    FIGURE,
    *(FIGURE | {"title": text} for text in (r"$\alpha$", r"$\frac$", "$", "漢字", "", "x" * 3000)),
    *(FIGURE | {"agents": names} for names in ("sac", "sac,sac", "pebble, sac", "none", ",")),
    *(FIGURE | {"environments": names} for names in ("hopper", "hopper," * 99 + "hopper", "")),
    *(FIGURE | {"columns": number} for number in HUGE),
    FIGURE | {"metric": "success_rate"},
]


@cases("figure recipes")
@given(
    data=documents(FIGURES),
    name=mostly(st.sampled_from(["mine", "nested/mine"]), words),
)
def test_a_figure_recipe_is_drawn_or_refused(data: bytes, name: str) -> None:
    with workplace() as here:
        write(here / "results", whole())
        (here / "nested").mkdir()
        with contextlib.suppress(OSError, ValueError):  # no file can be called this
            (here / f"{name}.toml").write_bytes(data)
        ask("plot", f"--out={here / 'drawn'}", "--", f"{name}.toml", allowed=[here / "drawn"])


# --- code --------------------------------------------------------------------------------------


class Planted:
    """Makes a folder where it is unpickled."""

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
        read = name == "run.toml" or (command != "run" and name != "training.csv")
        assert code == (2 if read else 0)
        assert not Path("executed").exists()


@pytest.mark.parametrize("kind", ["env", "agents", "plot"])
def test_a_pickle_for_a_recipe_is_refused_and_not_executed(kind: str) -> None:
    with workplace() as here, no_training([]):
        write(here, {"mine.toml": PICKLE})
        write(here / "results", whole())
        run = {"--env": "hopper", "--agents": "sac"} | {f"--{kind}": "mine.toml"}
        arguments = [f"{flag}={name}" for flag, name in run.items()]
        code, _, err = ask(*(["plot", "mine.toml"] if kind == "plot" else ["run", *arguments]))
        assert code == 2
        assert "mine.toml: not valid TOML" in err
        assert not Path("executed").exists()
