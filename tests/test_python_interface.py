"""Python interface: `mujoco_sail.train` in scripts and notebooks."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from helpers.command_line import fails
from helpers.tiny import TINY

import mujoco_sail
from mujoco_sail import TrainingError, UserError, interface
from mujoco_sail.agents import registry
from mujoco_sail.agents.sail import SAIL
from mujoco_sail.cli import main
from mujoco_sail.training import command, pool
from mujoco_sail.training.messages import Failure

OVERRIDES = {f"env.{key}": value for key, value in TINY.items()}
PATIENCE = 120.0  # seconds, on a busy machine


@pytest.fixture(autouse=True)
def _this_process_trains_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents training in this process if a test fails; scripts run in other processes."""
    trains(monkeypatch, AssertionError("not refused"))


def script(folder: Path, lines: str) -> list[str]:
    """Command of a script without main guard; it can train small runs with `train`."""
    start = (
        "import functools\nimport mujoco_sail\n"
        "train = functools.partial(mujoco_sail.train, protocol='quick', device='cpu')\n"
        f"OVERRIDES = {OVERRIDES!r}\n"
    )
    (folder / "script.py").write_text(start + lines)
    return [sys.executable, "script.py"]


def test_a_script_without_main_guard_trains_and_gets_its_runs(tmp_path: Path) -> None:
    lines = """
print("script runs")
trained = train("half_cheetah", ["random", "pebble"], seeds=[3, 1], overrides=OVERRIDES)
trained.evaluations.to_csv("evaluations.csv", index=False)
print(trained)
again = train("half_cheetah", "pebble", seeds=[3], overrides=OVERRIDES)
print(again)
"""
    done = subprocess.run(
        script(tmp_path, lines), cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout.count("script runs") == 1
    assert "failed" not in done.stdout
    assert done.stderr == ""
    read = mujoco_sail.read_results(tmp_path / "results")
    assert read.runs[["agent", "seed"]].to_numpy().tolist() == [
        ["pebble", 1],
        ["pebble", 3],
        ["random", 1],
        ["random", 3],
    ]
    assert set(read.runs["status"]) == {"complete"}
    assert "Results(runs: 4 complete; rows: evaluations 8, training 8, feedback 16)" in done.stdout
    written = pd.read_csv(tmp_path / "evaluations.csv")
    pd.testing.assert_frame_equal(written, read.evaluations, check_dtype=False, rtol=1e-15)
    # The second call found its run complete, and returned only this run.
    assert "1 of 1 runs are complete already" in done.stdout
    assert "Results(runs: 1 complete; rows: evaluations 2" in done.stdout


def test_an_interrupt_writes_checkpoints_and_the_same_call_resumes(tmp_path: Path) -> None:
    lines = """
long = {**OVERRIDES, "env.steps": 1500, "env.session_every": 1400, "env.evaluation_every": 500}
print(train("half_cheetah", "pebble", seeds=1, overrides=long))
"""
    words = script(tmp_path, lines)
    process = subprocess.Popen(
        words, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    run = tmp_path / "results/half_cheetah/pebble/seed_0"
    deadline = time.monotonic() + PATIENCE
    while not (run / "training.csv").exists() or len((run / "training.csv").read_text()) < 200:
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    out, error = process.communicate()
    assert "stopped; the same call resumes from here" in out
    assert error.splitlines()[-1] == "KeyboardInterrupt"
    assert process.returncode != 0
    assert [*mujoco_sail.read_results(tmp_path / "results").runs["status"]] == ["running"]
    assert [*(run / "checkpoints").iterdir()]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "half_cheetah: from step" in done.stdout
    assert "Results(runs: 1 complete" in done.stdout


NOTHING: dict[str, Any] = {"env": "half_cheetah", "agents": "pebble", "protocol": "quick"}


def trains(monkeypatch: pytest.MonkeyPatch, *outcome: Failure | BaseException) -> None:
    """Replaces training by failures or an exception."""

    def instead(*arguments: object) -> list[Failure]:
        for each in outcome:
            if isinstance(each, BaseException):
                raise each
        return [each for each in outcome if isinstance(each, Failure)]

    monkeypatch.setattr(command, "train", instead)


def test_failed_runs_raise_a_training_error_with_their_names(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    diverged = Failure("ant", (("pebble", 0), ("sail", 2)), "a loss is not finite")
    trains(monkeypatch, diverged, Failure("hopper", (("sac", 1),), "taken", refused=True))
    with pytest.raises(TrainingError) as caught:
        mujoco_sail.train(**NOTHING)
    assert str(caught.value) == (
        "failed: ant: pebble seed 0, sail seed 2: a loss is not finite\n"
        "failed: hopper: sac seed 1: taken"
    )


def test_refused_runs_raise_a_user_error(monkeypatch: pytest.MonkeyPatch) -> None:
    trains(monkeypatch, Failure("ant", (("sac", 1),), "seed_1 is in use", refused=True))
    with pytest.raises(UserError, match=r"^failed: ant: sac seed 1: seed_1 is in use$"):
        mujoco_sail.train(**NOTHING)


def test_a_signal_is_raised_again_after_the_runs_are_saved(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    came: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: came.append(number))
    try:
        trains(monkeypatch, pool.Interrupted(signal.SIGTERM))
        with pytest.raises(KeyboardInterrupt):
            mujoco_sail.train(**NOTHING)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert came == [signal.SIGTERM]


def test_failures_before_a_signal_are_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    failure = Failure("ant", (("sac", 1),), "no space left")
    trains(monkeypatch, pool.Interrupted(signal.SIGTERM, [failure]))
    words = ["--env", "half_cheetah", "--agents", "pebble", "--protocol", "quick"]
    assert main(["run", *words]) == 128 + signal.SIGTERM
    said = capsys.readouterr()
    assert said.err == "mujoco-sail: failed: ant: sac seed 1: no space left\n"
    assert said.out == "stopped; the same command resumes from here\n"


MISTAKES: dict[str, tuple[dict[str, Any], list[str]]] = {
    "environment": ({"env": "walker_wlak"}, ["--env", "walker_wlak"]),
    "twice": ({"env": ["reacher", "reacher"]}, ["--env", "reacher,reacher"]),
    "agent": ({"agents": ["pebble", "sial"]}, ["--agents", "pebble,sial"]),
    "file": ({"agents": Path("none.toml")}, ["--agents", "none.toml"]),
    "protocol": ({"protocol": "fast"}, ["--protocol", "fast"]),
    "teacher": ({"teacher": "noizy"}, ["--teacher", "noizy"]),
    "no seed": ({"seeds": 0}, ["--seeds", "0"]),
    "seeds": ({"seeds": [1, 1]}, ["--seeds", "1,1,"]),
    "key": ({"overrides": {"env.stepz": 1}}, ["--set", "env.stepz=1"]),
    "number": ({"overrides": {"env.steps": 1.5}}, ["--set", "env.steps=1.5"]),
    "truth": ({"overrides": {"env.goal_visible": False}}, ["--set", "env.goal_visible=false"]),
    "NumPy": ({"overrides": {"env.labels": np.int64(3)}}, ["--set", "env.labels=3"]),
    "list": ({"overrides": {"env.reward_range": [1, 0]}}, ["--set", "env.reward_range=[1, 0]"]),
    "text": ({"overrides": {"env.steps": "1000"}}, ["--set", 'env.steps="1000"']),
    "other agent": (
        {"overrides": {"agent.sac.gamma": 1.0}},
        ["--set", "agent.sac.gamma=1.0"],
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_user_error_has_the_message_of_the_command_line(
    mistake: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    in_python, options = MISTAKES[mistake]
    words = ["--env", "half_cheetah", "--agents", "pebble", "--protocol", "quick", *options]
    said = fails(capsys, "run", *words, "--results", str(tmp_path))
    with pytest.raises(UserError) as caught:
        mujoco_sail.train(**NOTHING | in_python, results=tmp_path)
    assert f"mujoco-sail: {caught.value}\n" == said


@pytest.mark.parametrize("value", [None, {"beta": 1}, object(), [None]])
def test_a_value_that_is_invalid_in_recipes_is_refused(value: object) -> None:
    with pytest.raises(UserError, match=r"--set env.steps: .* is not a valid value in a recipe"):
        mujoco_sail.train(**NOTHING, overrides={"env.steps": value})


@pytest.mark.parametrize("seeds", ["3", 2.0, [0, 1.5], None])
def test_seeds_that_are_no_whole_numbers_are_refused(seeds: Any) -> None:
    with pytest.raises(UserError, match=r"^seeds is .*; expected a whole number such as 3, or a"):
        mujoco_sail.train(**NOTHING | {"seeds": seeds})


@pytest.mark.parametrize("margin", ["a", None, [0.1]])
def test_a_margin_that_is_no_number_is_refused(margin: Any) -> None:
    with pytest.raises(UserError, match=r"^--margin .*: expected a number above 0, such as 0\.1$"):
        mujoco_sail.compare(margin=margin)


def test_an_unknown_device_gives_an_error_with_the_allowed_ones() -> None:
    with pytest.raises(UserError, match=r"--device gpu: .*allowed: auto, cpu, cuda"):
        mujoco_sail.train(**NOTHING, device="gpu")


def test_training_in_another_thread_is_refused() -> None:
    said: list[str] = []

    def call() -> None:
        try:
            mujoco_sail.train(**NOTHING)
        except UserError as error:
            said.append(str(error))

    thread = threading.Thread(target=call)
    thread.start()
    thread.join()
    assert said == ["train: call it in the main thread, the only one that Ctrl-C can stop"]


def test_an_agent_whose_module_calls_train_is_refused(tmp_path: Path) -> None:
    (tmp_path / "nested.py").write_text(
        "import mujoco_sail\n"
        "from mujoco_sail.agents.sail import SAIL as Nested\n"
        "mujoco_sail.train('half_cheetah', 'pebble', protocol='quick')\n"
    )
    recipe = tmp_path / "nested.toml"
    recipe.write_text('title = "Trains"\nbase = "pebble"\nclass = "nested:Nested"\n')
    with pytest.raises(UserError, match="train was called while it is running; an agent's module"):
        mujoco_sail.train("half_cheetah", recipe, protocol="quick")


def test_an_agent_that_is_defined_in_the_main_script_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Inline(SAIL):
        pass

    Inline.__module__ = "__main__"
    monkeypatch.setattr(sys.modules["__main__"], "Inline", Inline, raising=False)
    recipe = tmp_path / "inline.toml"
    recipe.write_text('title = "Inline"\nbase = "pebble"\nclass = "__main__:Inline"\n')
    with pytest.raises(UserError, match="workers do not run the script or notebook"):
        registry.load_spec(str(recipe), {})


def test_importing_the_package_imports_no_library_until_a_name_is_used() -> None:
    code = """import sys, mujoco_sail
heavy = {"torch", "pandas", "numpy", "scipy", "mujoco", "gymnasium"}
assert not heavy & {*sys.modules}, heavy & {*sys.modules}
assert {"train", "read_results", "compare"} <= {*dir(mujoco_sail)}
mujoco_sail.read_results
assert "pandas" in sys.modules and "torch" not in sys.modules
assert not hasattr(mujoco_sail, "none_such")"""
    subprocess.run([sys.executable, "-c", code], check=True)
    assert {*interface.__all__, "__version__"} == {*mujoco_sail.__all__}
