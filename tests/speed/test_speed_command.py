"""Output and errors of `mujoco-sail speed`."""

from __future__ import annotations

import dataclasses
import errno
import tomllib
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from helpers.command_line import fails
from helpers.tiny import CPU, tiny_task

from mujoco_sail.agents import registry
from mujoco_sail.cli import main
from mujoco_sail.speed import roofline, rounds, summary
from mujoco_sail.speed.command import file_name
from mujoco_sail.speed.peers import Peer
from mujoco_sail.speed.plan import Plan
from mujoco_sail.speed.rounds import Rate
from mujoco_sail.speed.worker import Request
from mujoco_sail.training import pool
from mujoco_sail.training.forecast import update_operations
from mujoco_sail.training.pool import available_cores

RECIPE = """
base = "reacher"
title = "short"
episode_steps = 10
[protocols.paper]
random_steps = 20
evaluation_episodes = 1
segment_steps = 5
"""


def speed(folder: Path, **changes: str) -> list[str]:
    """Arguments of a comparison that takes seconds."""
    recipe = folder / "short.toml"
    recipe.write_text(RECIPE)
    options = {
        "env": str(recipe),
        "members": "1,2",
        "width": "16",
        "batch": "8",
        "rounds": "2",
        "seconds": "0.05",
        "engine": "eager",
        "device": "cpu",
        "out": str(folder / "results" / "speed"),
        **changes,
    }
    return ["speed", *(f"--{key}={value}" for key, value in options.items())]


def rate(measurement: str, learner: str, *values: float, threads: int = 1) -> Rate:
    """Rate of one worker with one member."""
    pool: Any = None
    unit = "x" if measurement == "environment" else "unit"
    request = Request("train", 1.0, threads)
    return Rate(measurement, learner, 1, "float32", unit, pool, request, [1], list(values))


def test_ratios_are_computed_per_round() -> None:
    task = tiny_task()
    sac, peer = (registry.load_spec(name, {}) for name in ("sac", "sb3_sac"))
    peers = {"sb3": [Peer(peer, "float32", [1, 2])]}
    plan = Plan(task, [sac], peers, [1], CPU, 3, 1.0, 100)
    ceilings = [(4.0, 1.0, 2.0), (3.0, 5.0, 1.0), (1.0, 1.0, 5.0), (1.0, 1.0, 6.0)]
    rates = [
        rate("train", "sac", 10.0, 20.0, 30.0),
        rate("train", "sb3_sac", 1.0, 1.0, 9.0),
        rate("train", "sb3_sac", 5.0, 5.0, 10.0, threads=2),
        rate("update", "sac", 1e3, 2e3, 3e3),
        rate("environment", "sac", 0.5, 0.25, 0.75),
        *(
            rate(way, "", *values)
            for way, values in zip(roofline.PRODUCT_CALLS, ceilings, strict=True)
        ),
        rate("evaluation", "sac", 2.0),
    ]
    rows = summary.frame(plan, rates)
    ratios = rows[rows.against != ""].set_index("measurement")
    assert ratios.loc["train", "against"] == "sb3_sac 1x2 float32"
    assert ratios.loc["train", ["low", "median", "high"]].tolist() == [2.0, 3.0, 4.0]
    giga = update_operations(task, (17, 6)) / 1e9
    # The best way of each round: 4, 5 and 6.
    shares = sorted([1e3 * giga / 4, 2e3 * giga / 5, 3e3 * giga / 6])
    assert ratios.loc["update", ["low", "median", "high"]].tolist() == pytest.approx(shares)
    # One evaluation takes 0.5 s of a worker, 5 ms per step; updates 1/15, 1/25 and 1/52.5 s.
    shares = [0.005 * 15, 0.005 * 25, 0.005 * 52.5]
    assert ratios.loc["evaluation", ["low", "median", "high"]].tolist() == pytest.approx(shares)
    assert ratios.loc["harness", "high"] == pytest.approx(0.75 + shares[2])
    assert len(rows) == len(rates) - 1 + 6


def test_the_summary_has_a_line_for_each_agent_and_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two members on a machine with two cores."""
    monkeypatch.setattr(pool, "available_cores", lambda: 2)
    task = tiny_task()
    sac, sb3 = (registry.load_spec(name, {}) for name in ("sac", "sb3_sac"))
    sail, sbx = dataclasses.replace(sac, name="sail"), dataclasses.replace(sb3, name="sbx_sac")
    peers = {
        "sb3": [Peer(sb3, "float32", [1]), Peer(sb3, "bfloat16", [1])],
        "sbx": [Peer(sbx, "float32", [1])],
    }
    plan = Plan(task, [sac, sail], peers, [2], CPU, 3, 1.0, 100)

    def both(measurement: str, learner: str, *values: float, precision: str = "float32") -> Rate:
        unit = {"train": "member-steps/s", "update": "member-updates/s", "environment": "x"}
        one = rate(measurement, learner, *values)
        changes = {"members": 2, "amounts": [1, 1], "precision": precision}
        return dataclasses.replace(one, unit=unit.get(measurement, "unit"), **changes)

    rates = [
        both("train", "sac", 2200.4, 1800.0, 2601.0),
        both("train", "sail", 1000.0, 1000.0, 1000.0),
        both("train", "sb3_sac", 500.0, 600.0, 700.0),
        both("train", "sb3_sac", 1000.0, 900.0, 650.0, precision="bfloat16"),
        both("train", "sbx_sac", 900.0, 800.0, 1000.0),
        *(both("update", name, 4000.0, 3240.0, 3000.0) for name in ("sac", "sail")),
        *(both("environment", name, 1.0, 1.0, 1.0) for name in ("sac", "sail")),
        *(both("evaluation", name, 1.0) for name in ("sac", "sail")),
        *(both(way, "", 1.0, 1.0, 1.0) for way in roofline.PRODUCT_CALLS),
    ]
    rows = summary.frame(plan, rates)
    sizes = "width=16 batch=16 precision=float32 engine=eager members=2 processes=2"
    # An update of a member takes 2 / 3240 s of one process.
    assert summary.lines(plan, rows) == [
        f"speed env=half_cheetah learner=sac {sizes} steps_per_s=2200 update_ms=0.617 "
        "sb3=2.2 sbx=2.44",
        f"speed env=half_cheetah learner=sail {sizes} steps_per_s=1000 update_ms=0.617 "
        "sb3=1.11 sbx=1.11",
    ]


def test_the_command_writes_rates_ratios_and_the_machine(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(speed(tmp_path)) == 0
    said = capsys.readouterr().out
    folder = tmp_path / "results" / "speed"
    name = "short_width16_batch8_float32_eager_cpu"
    assert sorted(path.name for path in folder.iterdir()) == [f"{name}.csv", f"{name}.toml"]
    rows = pd.read_csv(folder / f"{name}.csv", keep_default_na=False)
    assert (rows[["low", "median", "high"]] > 0).all().all()
    assert ((rows.low <= rows["median"]) & (rows["median"] <= rows.high)).all()
    assert set(rows.environment) == {"short"}
    most = min(2, available_cores())
    trained = rows[(rows.measurement == "train") & (rows.against == "")]
    expected = {("sac", 1, 1, 1), ("sac", 2, most, 1)}  # agent, members, processes, threads
    expected |= {("sb3_sac", 1, 1, t) for t in (1, available_cores())} | {
        ("sb3_sac", most, most, 1)
    }
    found = trained[["learner", "members", "processes", "threads"]].itertuples(index=False)
    assert {tuple(row) for row in found} == expected
    assert len(trained) == len(expected)
    for members in (1, 2):
        of = rows[(rows.members == members) & (rows.learner == "sac")]
        assert of[of.against != ""].measurement.tolist() == ["train", "update"] + (
            ["environment", "evaluation", "harness"] if members == 2 else []
        )
        ways = rows[(rows.members == members) & (rows.unit == "GFLOP/s") & (rows.learner == "")]
        assert ways.measurement.tolist() == list(roofline.PRODUCT_CALLS)
    about = tomllib.loads((folder / f"{name}.toml").read_text())
    assert about["machine"]["cores"] == available_cores()
    assert about["versions"]["stable_baselines3"]
    assert "sac / sb3_sac" in said
    assert set(rows[rows.learner == "sac"].engine) == {"eager"}
    assert set(rows[rows.learner != "sac"].engine) == {""}
    assert [line.split()[:8] for line in said.splitlines()[-2:]] == [
        "speed env=short learner=sac width=16 batch=8 precision=float32 engine=eager "
        f"members={members}".split()
        for members in (1, 2)
    ]
    # They are not read as runs by `table`.
    assert main(["table", "--results", str(tmp_path / "results")]) == 2
    assert "no results here" in capsys.readouterr().err


def test_an_interrupted_comparison_leaves_the_files_of_the_one_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(rounds, "measure", interrupted)
    assert main(speed(tmp_path)) == 130
    assert list((tmp_path / "results" / "speed").iterdir()) == []


def test_the_files_of_a_backend_have_its_name_and_those_of_gymnasium_none() -> None:
    names = [file_name(tiny_task(backend=name), "cpu") for name in ("gymnasium", "envpool")]
    assert names == [
        f"half_cheetah_width16_batch16_float32_eager{backend}_cpu" for backend in ("", "_envpool")
    ]


def test_a_failing_worker_gives_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "breaking.py").write_text(
        "from mujoco_sail.agents.sac import SAC\n"
        "class Breaking(SAC):\n"
        "    def update(self):\n"
        "        raise ValueError('out of sorts')\n"
    )
    recipe = tmp_path / "breaking.toml"
    recipe.write_text('base = "sac"\ntitle = "breaking"\nclass = "breaking:Breaking"\n')
    assert main(speed(tmp_path, agents=str(recipe), members="1")) == 1
    assert capsys.readouterr().err == (
        "mujoco-sail: failed: a worker failed: ValueError: out of sorts\n"
    )


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        ({"members": "0"}, ["--members 0"]),
        ({"members": "1,many"}, ["--members 1,many", "1,3,12"]),
        ({"width": "x"}, ["--width", "'x'"]),
        ({"width": "0"}, ["--width 0"]),
        ({"batch": "-1"}, ["--batch -1"]),
        ({"rounds": "0"}, ["--rounds 0"]),
        ({"seconds": "nan"}, ["--seconds nan"]),
        ({"precision": "tf32", "device": "cpu"}, ["'precision' is 'tf32'", "on this cpu"]),
        ({"precision": "fp8"}, ["fp8", "float32", "bfloat16"]),
        ({"env": "walker_wal"}, ["'walker_wal'", "did you mean 'walker_walk'"]),
        ({"env": "hopper,reacher"}, ["--env hopper,reacher"]),
        ({"peers": "sb3,sbxx"}, ["--peers sb3,sbxx", "'sbxx'", "did you mean 'sbx'"]),
        ({"peers": ""}, ["--peers", "allowed: sb3, sbx"]),
        ({"engine": "fast"}, ["fast", "compiled", "eager"]),
        ({"agents": "sb3_sac"}, ["sb3_sac", "sac,sail"]),
        ({"agents": "sca"}, ["'sca'", "did you mean 'sac'"]),
        ({"device": "tpu"}, ["tpu", "cpu"]),
        ({"out": "/dev/null/speed"}, ["--out /dev/null/speed", "cannot be written"]),
    ],
)
def test_an_invalid_option_is_an_error_before_anything_is_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], changes: dict[str, str], parts: list[str]
) -> None:
    said = fails(capsys, *speed(tmp_path, **changes))
    assert len(said.splitlines()) == 1
    for part in parts:
        assert part in said
    assert not (tmp_path / "results").exists()


def test_without_a_temporary_folder_there_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full() -> Any:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(rounds, "scratch_folder", full)
    said = fails(capsys, *speed(tmp_path))
    assert "no temporary folder can be made: [Errno 28] No space left on device; set TMP" in said
