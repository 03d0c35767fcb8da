"""Runs interrupted at their start affect neither other runs nor the next command."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers.command_line import overrides, without_workers
from helpers.tiny import TINY, tiny_task

from mujoco_sail.agents import registry
from mujoco_sail.analysis import tables
from mujoco_sail.cli import main
from mujoco_sail.policies import export
from mujoco_sail.results import write
from mujoco_sail.results.pooling import collect
from mujoco_sail.results.write import RunWriter, run_folder, status_of
from mujoco_sail.system.errors import UserError
from mujoco_sail.training.selection import unfinished_members

ROWS = ((75, 1.0), (150, 2.0))


def writer(results: Path, seed: int) -> RunWriter:
    task, spec = tiny_task(), registry.load_spec("sac", {})
    return RunWriter(run_folder(results, task, "sac", seed), task, spec, seed, "cpu")


def whole(results: Path, seed: int) -> Path:
    files = writer(results, seed)
    files.begin(None)
    for step, value in ROWS:
        files.add_evaluation(step, value + seed, 0.0, 1, "", 0)
    files.write_status("complete", 1.0)
    return files.folder


def keep(*names: str) -> Callable[[Path], None]:
    def cut(folder: Path) -> None:
        for path in folder.iterdir():
            if path.name not in names:
                path.unlink()

    return cut


def only(name: str, data: bytes = b"x") -> Callable[[Path], None]:
    def cut(folder: Path) -> None:
        keep()(folder)
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(data)

    return cut


CUTS = {
    "csv files": keep("evaluations.csv", "training.csv", "timing.csv", "feedback.csv"),
    "one csv file": keep("evaluations.csv"),
    "nothing": keep(),
    "checkpoints": only("checkpoints/step_5.safetensors"),
    "a temporary file": only(".run.toml.4711"),
    "an empty run.toml": lambda folder: (folder / "run.toml").write_bytes(b""),
    "a run.toml of zeros": lambda folder: (folder / "run.toml").write_bytes(bytes(512)),
}


@pytest.fixture(params=CUTS.values(), ids=CUTS.keys())
def results(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """Two complete runs and one, seed 3, that was interrupted at its start."""
    for seed in (0, 1):
        whole(tmp_path / "out", seed)
    request.param(whole(tmp_path / "out", 3))
    return tmp_path / "out"


def test_the_table_lists_it_as_incomplete_and_counts_the_others(results: Path) -> None:
    shown = tables.table(results, "md", "sac", 0.1)
    assert "incomplete, not counted: half_cheetah/sac/seed_3" in shown
    rows = tables.table(results, "csv", "sac", 0.1)
    shutil.rmtree(results / "half_cheetah" / "sac" / "seed_3")
    assert tables.table(results, "csv", "sac", 0.1) == rows
    assert len(rows.splitlines()) == 2


def test_the_same_command_trains_it_again(results: Path) -> None:
    task, spec = tiny_task(), registry.load_spec("sac", {})
    folder = run_folder(results, task, "sac", 3)
    assert status_of(folder, task, spec) is None
    assert [m.seed for m in unfinished_members(task, [spec], [0, 1, 3], results)] == [3]
    writer(results, 3).begin(None)
    assert status_of(folder, task, spec) == "running"
    assert not [*folder.glob(".*")]


def test_exporting_its_policy_is_a_one_line_error(results: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="seed_3: no run there") as error:
        export(results / "half_cheetah" / "sac" / "seed_3", tmp_path / "policy")
    assert len(str(error.value).splitlines()) == 1


def test_figures_are_drawn_of_the_others_and_it_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole(tmp_path / "out", 0)
    CUTS["csv files"](whole(tmp_path / "out", 3))
    options = ["--results", str(tmp_path / "out"), "--out", str(tmp_path / "plots")]
    assert main(["plot", "learning_curves", *options]) == 0
    assert len([*(tmp_path / "plots").iterdir()]) == 2
    assert "incomplete, not counted: half_cheetah/sac/seed_3" in capsys.readouterr().err


def test_a_folder_of_nothing_but_such_runs_has_an_empty_table(tmp_path: Path) -> None:
    CUTS["nothing"](whole(tmp_path, 3))
    shown = tables.table(tmp_path, "md", "sac", 0.1)
    assert "incomplete, not counted: half_cheetah/sac/seed_3" in shown


@pytest.mark.parametrize("data", [b"\n", b"status = ", b"\0x", b"\xff\xfe"])
def test_an_invalid_run_toml_is_an_error_that_names_it(tmp_path: Path, data: bytes) -> None:
    folder = whole(tmp_path, 0)
    (folder / "run.toml").write_bytes(data)
    with pytest.raises(UserError, match=r"seed_0/run\.toml"):
        collect(tmp_path)


@pytest.mark.parametrize("name", ["seed_", "seed_x", "seed_03", "seed_3 copy"])
def test_another_folder_without_run_toml_is_an_error_that_names_it(
    tmp_path: Path, name: str
) -> None:
    whole(tmp_path, 0).with_name(name).mkdir()
    with pytest.raises(UserError, match=f"{name}: no run.toml"):
        collect(tmp_path)


@pytest.mark.parametrize("writes", range(5))
@pytest.mark.parametrize("again", [False, True], ids=["begun", "begun again"])
def test_a_run_interrupted_anywhere_at_its_start_is_incomplete_in_the_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, writes: int, again: bool
) -> None:
    whole(tmp_path, 0)
    files = writer(tmp_path, 3)
    saved = None
    if again:
        files.begin(None)
        saved = files.state(1.0)
        files.write_status("failed", 1.0, "the disk was full")
    done: list[Path] = []
    write_text = write.write_text

    def dying_write_text(path: Path, text: str) -> None:
        if len(done) == writes:
            raise KeyboardInterrupt
        write_text(path, text)
        done.append(path)

    monkeypatch.setattr(write, "write_text", dying_write_text)
    with pytest.raises(KeyboardInterrupt):
        writer(tmp_path, 3).begin(saved)
    assert [path.name for path in done[:1]] == ["run.toml"][:writes]
    shown = tables.table(tmp_path, "md", "sac", 0.1)
    # Without the first write there is no run, or the previous one.
    assert ("incomplete, not counted: half_cheetah/sac/seed_3" in shown) == bool(writes)


def test_a_run_trained_again_equals_one_without_interruption(tmp_path: Path) -> None:
    small = overrides(TINY)
    options = ["--env=half_cheetah", "--agents=sac", "--seeds=1", "--protocol=quick", *small]
    texts = []
    for name, cut in (("whole", None), ("cut", CUTS["csv files"])):
        if cut:
            cut(whole(tmp_path / name, 0))
        with without_workers():
            code = main(["run", *options, "--device=cpu", "--results", str(tmp_path / name)])
        assert code == 0
        folder = tmp_path / name / "half_cheetah" / "sac" / "seed_0"
        texts.append([(folder / f"{one}.csv").read_text() for one in ("evaluations", "training")])
        assert status_of(folder, tiny_task(), registry.load_spec("sac", {})) == "complete"
    assert texts[0] == texts[1]
