"""Policies written by runs, and their export."""

from __future__ import annotations

import codecs
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.checkout import ROOT, readme
from helpers.command_line import fails, run
from helpers.policies import forge, policy_of, replace
from helpers.runs import MakeRun
from helpers.tiny import tiny_task

from mujoco_sail import policies
from mujoco_sail.cli import main
from mujoco_sail.training.messages import MembersFailed

README = readme("Use a trained policy")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a complete run."""
    out = tmp_path_factory.mktemp("results")
    assert run(out, "half_cheetah", "sac") == 0
    return out / "half_cheetah" / "sac" / "seed_0"


@pytest.mark.parametrize(("name", "seeds"), [("sail_revkl", (0, 1)), ("sb3_ppo", (0,))])
def test_equal_runs_write_equal_policies(
    name: str, seeds: tuple[int, ...], make_run: MakeRun
) -> None:
    settings = {"sb3_ppo": {"n_steps": 50, "batch_size": 25}}
    contents = []
    for _ in range(2):
        run = make_run([(name, seed) for seed in seeds], settings=settings)
        run.execute()
        folders = [files.folder for files in run.files]
        contents.append([f.joinpath("policy.safetensors").read_bytes() for f in folders])
        loaded = [policies.load(folder / "policy").about for folder in folders]
        assert [(about.agent, about.seed) for about in loaded] == [(name, s) for s in seeds]
        assert {about.step for about in loaded} == {150}
    assert contents[0] == contents[1]
    assert len(set(contents[0])) == len(seeds)


def test_a_failed_run_writes_no_policy(make_run: MakeRun) -> None:
    refusing = {"oracle.skip": 50.0, "reward_range": [-100.0, 1.0]}
    run = make_run([("pebble", 0)], tiny_task(teacher="skip", **refusing))
    with pytest.raises(MembersFailed, match="refused"):
        run.execute()
    assert not list(run.files[0].folder.glob("policy.*"))


def test_an_exported_policy_equals_the_runs(
    finished: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["export", str(finished)]) == 0
    assert main(["export", str(finished), "--out", "there/mine.toml"]) == 0
    names = ["half_cheetah_sac_seed_0", "there/mine"]
    expected = [f"{name}{suffix}" for name in names for suffix in (".safetensors", ".toml")]
    assert capsys.readouterr().out.split() == expected
    for path in map(Path, expected):
        assert path.read_bytes() == (finished / f"policy{path.suffix}").read_bytes()


def test_the_readmes_example_runs(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The README's example, with other names."""
    monkeypatch.chdir(tmp_path)
    policies.export(finished, Path("walker"))
    (code,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    code = code.replace("walker_stand", "half_cheetah")
    assert code.count("half_cheetah") == code.count('"walker"') == 1
    imports, lines = code.split("\n\n")
    assert imports.count("\n") == 0
    assert len(lines.strip().splitlines()) == 3
    names: dict[str, Any] = {}
    exec(code, names)
    assert np.isfinite(names["reward"])
    assert names["observation"].shape == (17,)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda folder: (folder / "run.toml").unlink(), "no run there"),
        (lambda folder: (folder / "run.toml").write_text("x = "), "not a valid run file"),
        (
            lambda folder: (folder / "run.toml").write_text("status = 'complete'"),
            "not a valid run file",
        ),
        (lambda folder: (folder / "run.toml").write_bytes(b"\xff"), "not a valid run file"),
        (lambda folder: [f.unlink() for f in folder.glob("policy.*")], "has no policy"),
        (lambda folder: (folder / "policy.toml").unlink(), "no such file"),
        (lambda folder: (folder / "policy.toml").write_text(""), "policy.toml"),
        (lambda folder: replace(folder / "run.toml", '"complete"', '"running"'), "'running'"),
        (lambda folder: replace(folder / "run.toml", "seed = 0", "seed = 1"), "not the policy of"),
        (lambda folder: policy_of(17, 4, 6).save(folder / "policy"), "not the policy of"),
    ],
)
def test_a_run_without_a_valid_policy_is_an_error(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], change: Any, said: str
) -> None:
    folder = tmp_path / "copy"
    folder.mkdir()
    for file in finished.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    change(folder)
    assert said in fails(capsys, "export", str(folder), "--out", str(tmp_path / "out"))
    assert not list(tmp_path.glob("out*"))


def test_a_run_that_was_saved_or_copied_on_windows_is_exported_as_it_was_written(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(finished, folder)
    for name in ("run.toml", "policy.toml"):
        text = (folder / name).read_bytes().replace(b"\n", b"\r\n")
        (folder / name).write_bytes(codecs.BOM_UTF8 + text)
    assert main(["export", str(folder), "--out", str(tmp_path / "mine")]) == 0
    assert (tmp_path / "mine.toml").read_bytes() == (finished / "policy.toml").read_bytes()


def test_an_export_that_cannot_be_written_is_an_error(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    said = fails(capsys, "export", str(finished), "--out", str(tmp_path / "file" / "mine"))
    assert "cannot be written" in said
    assert "no run there" in fails(capsys, "export", str(tmp_path / "nowhere"))


def test_names_in_untrusted_files_are_not_used_as_paths(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "a" / "b" / "c"
    folder.mkdir(parents=True)
    for file in finished.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    replace(folder / "run.toml", 'name = "half_cheetah"', 'name = "../evil"')
    forge(folder / "policy", None, 'env = "half_cheetah"', 'env = "../evil"')
    monkeypatch.chdir(tmp_path / "a")
    assert main(["export", "b/c"]) == 0
    assert {path.name for path in Path().iterdir()} == {"b", "a_b_c.toml", "a_b_c.safetensors"}
    assert {path.name for path in tmp_path.iterdir()} == {"a"}


def test_published_results_have_no_policies() -> None:
    path = "results/hopper/sac/seed_0/policy.toml"
    if not (ROOT / ".git").exists():
        pytest.skip("not a checkout")
    subprocess.run(["git", "check-ignore", "--quiet", path], cwd=ROOT, check=True)
