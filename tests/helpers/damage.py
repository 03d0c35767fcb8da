"""Damaged results folders, for the fuzz tests."""

from __future__ import annotations

import contextlib
import copy
import functools
import math
import tempfile
import tomllib
from pathlib import Path

import tomli_w
from hypothesis import strategies as st

from helpers.fuzz_values import FLOATS, HUGE, damaged, documents, texts, values
from mujoco_sail.agents import registry
from mujoco_sail.preferences.sessions import Query
from mujoco_sail.recipes.load import load_task
from mujoco_sail.results.write import RunWriter, run_folder

AGENTS = ("sac", "pebble")
SEEDS = (0, 1)


@functools.cache
def whole() -> dict[str, bytes]:
    """Result files of two agents with two seeds, as written by training."""
    task = load_task("hopper", "quick", {"cuda_graph": False})  # as in every run on the CPU
    with tempfile.TemporaryDirectory() as root:
        for name in AGENTS:
            for seed in SEEDS:
                spec = registry.load_spec(name, {})
                folder = run_folder(Path(root), task, name, seed)
                files = RunWriter(folder, task, spec, seed, "cpu")
                files.begin(None)
                for step in (100, 200, 300):
                    files.add_evaluation(step, seed + step / 7, 0.5, 2, "", 2)
                    files.add_training_row(
                        {"step": step, "critic_loss": 0.1, "entropy": math.nan}, 1.0
                    )
                asked = [Query(50, 0, 1.5, 2.0, 1.0), Query(60, 1, 2.5, 2.0, None)]
                files.add_queries(asked if name == "pebble" else [])
                files.write_status("complete", 1.5)
        paths = [path for path in Path(root).rglob("*") if path.is_file()]
        return {str(path.relative_to(root)): path.read_bytes() for path in paths}


def write(folder: Path, files: dict[str, bytes]) -> None:
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)


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
    """One or two result files with their new content, or None for a folder in their place.

    Args:
        draw: Function of Hypothesis.
        kind: Part of the names of the files that may be damaged.
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
    """All `run.toml` with the same invalid value, so that the runs may be pooled."""
    files = {name: tomllib.loads(data.decode()) for name, data in whole().items() if "run." in name}
    scope = draw(st.sampled_from(["env", "agent", "versions"]))
    key = draw(st.one_of(st.sampled_from(["protocol", "teacher", "mujoco"]), texts))
    value = draw(st.one_of(texts, values))
    for table in files.values():
        table[scope][key] = copy.deepcopy(value)
    return {name: tomli_w.dumps(table).encode() for name, table in files.items()}


@st.composite
def alike_curves(draw: st.DrawFn) -> dict[str, bytes]:
    """All `evaluations.csv` with one column replaced by the same numbers."""
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
