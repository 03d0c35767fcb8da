from __future__ import annotations

import argparse
import errno
import os
import signal
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import pytest
import torch
from helpers.command_line import PROGRAM

from mujoco_sail.system.errors import UserError
from mujoco_sail.theory import claims, command, experiment, figure
from mujoco_sail.theory.experiment import Experiment, Tables

GAMMAS = (0.0, 0.03, 0.3)


@pytest.fixture(scope="module")
def plan() -> Experiment:
    return Experiment(
        prompts=2,
        responses=3,
        features=2,
        beta=0.1,
        gammas=GAMMAS,
        radius=3.0,
        seeds=3,
        samples=2000,
    )


def measure(plan: Experiment, seeds: list[int]) -> Tables:
    """Measures with fewer points, ascents and searches than the command."""
    with pytest.MonkeyPatch.context() as patch:
        for name, count in (("POINTS", 50), ("STARTS", 8), ("SEARCHES", 2)):
            patch.setattr(experiment, name, (count, count))
        return experiment.measure(plan, seeds)


@pytest.fixture(scope="module")
def tables(plan: Experiment) -> Tables:
    torch.set_num_threads(1)  # as for each test, but this fixture comes first
    return measure(plan, [0, 1, 2])


def parse(*options: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    return parser.parse_args(options)


def test_the_tables_are_tidy(tables: Tables) -> None:
    assert list(tables) == ["curvature", "pl_ratio", "bias", "convergence"]
    for name in ("curvature", "pl_ratio", "bias"):
        assert not tables[name].duplicated(["seed", "gamma"]).any()
        assert len(tables[name]) == 9
    runs = tables["convergence"]
    assert not runs.duplicated(["seed", "gamma", "rate", "samples"]).any()
    assert runs["samples"].max() == 2000 // experiment.BATCH * experiment.BATCH
    for table in tables.values():
        assert np.isfinite(table.to_numpy(dtype=float)).all()


def test_the_maxima_bound_the_runs_and_the_bias_starts_from_zero(tables: Tables) -> None:
    assert tables["convergence"]["suboptimality"].min() > -1e-12
    free = tables["bias"][tables["bias"]["gamma"] == 0]
    assert (free[["distance", "loss", "loss_share"]] == 0).all(axis=None)
    assert (tables["bias"]["loss"] > -1e-12).all()
    assert (tables["bias"]["norm"] <= 3 + 1e-12).all()


def test_results_of_a_seed_do_not_depend_on_the_other_seeds(
    plan: Experiment, tables: Tables
) -> None:
    alone = measure(plan, [1])
    for name in ("curvature", "convergence"):
        among = tables[name][tables[name]["seed"] == 1].reset_index(drop=True)
        pd.testing.assert_frame_equal(alone[name], among, rtol=1e-6, atol=1e-9)


def runs_of(gamma: float, power: float, rates: dict[float, float]) -> pd.DataFrame:
    """Runs with suboptimality height * samples^power, and a height for each rate."""
    return pd.DataFrame(
        [
            {
                "seed": seed,
                "gamma": gamma,
                "rate": rate,
                "samples": samples,
                "suboptimality": height * (1 + seed) * samples**power,
                "loss": 0.1 * gamma + height * samples**power,
            }
            for rate, height in rates.items()
            for seed in range(4)
            for samples in (10, 100, 1000, 10_000)
        ]
    )


def test_the_fitted_slope_is_the_power_and_the_rate_is_the_best() -> None:
    rate = claims.rate_of(runs_of(0.3, -1.0, {30.0: 2.0, 100.0: 1.0, 300.0: 5.0}), 0.3)
    assert rate.rate == 100
    for slope in (rate.slope, rate.low, rate.high):
        assert slope == pytest.approx(-1)


def verdicts(tables: Tables) -> dict[str, bool]:
    rates = {g: claims.rate_of(tables["convergence"], g) for g in GAMMAS}
    return {
        claim.claim.split(" (")[0]: claim.holds for claim in claims.evaluate_claims(tables, rates)
    }


def test_verdicts_follow_from_the_measurements(tables: Tables) -> None:
    near_linear = "SAIL-RevKL needs O~(1 / eps) samples"
    slower = "SAIL converges more slowly"

    def judge(**powers: float) -> dict[str, bool]:
        runs = [runs_of(gamma, powers[f"g{i}"], {30.0: 1.0}) for i, gamma in enumerate(GAMMAS)]
        return verdicts({**tables, "convergence": pd.concat(runs)})

    good = judge(g0=-0.1, g1=-0.5, g2=-1.0)
    assert good[near_linear]
    assert good[slower]
    bad = judge(g0=-1.0, g1=-0.5, g2=-0.5)
    assert not bad[near_linear]
    assert not bad[slower]


def test_concavity_is_claimed_only_from_the_gamma_on_where_no_point_contradicts() -> None:
    shares = {0.0: 0.9, 0.01: 0.0, 0.1: 0.2, 0.3: 0.0, 1.0: 0.0}
    table = pd.DataFrame(
        [{"gamma": g, "seed": s, "share_not_concave": x} for g, x in shares.items() for s in (0, 1)]
    )
    assert claims.anchor_of(table) == 0.3
    table.loc[table["gamma"] == 1.0, "share_not_concave"] = [0.0, 0.001]
    assert claims.anchor_of(table) is None


def test_a_landscape_that_is_never_concave_is_reported(tables: Tables) -> None:
    rough = tables["curvature"].assign(share_not_concave=0.5)
    stuck = tables["bias"].assign(share_of_ascents_at_maximum=0.5)
    found = verdicts({**tables, "curvature": rough, "bias": stuck})
    assert not found["SAIL-RevKL is concave on the ball once gamma is large enough"]
    assert not found["SAIL-RevKL satisfies the PL condition on the ball"]


def test_a_maximum_found_by_one_ascent_only_is_reported_as_uncertain(tables: Tables) -> None:
    sure = tables["bias"].assign(gap_of_best_two=0.0)
    assert "at least two" in claims.confidence(sure)
    sure.loc[0, "gap_of_best_two"] = 1e-3
    assert "1 of 9" in claims.confidence(sure)


def test_the_figure_is_the_same_twice(tables: Tables) -> None:
    rates = {g: claims.rate_of(tables["convergence"], g) for g in GAMMAS}
    first, second = (figure.render(tables, rates, 3.0) for _ in range(2))
    assert first == second
    assert first["png"].startswith(b"\x89PNG")
    assert first["svg"].startswith(b"<?xml")


def test_larger_problems_get_fewer_points(plan: Experiment) -> None:
    large = replace(plan, prompts=16, responses=64, features=64)
    for limits in (experiment.POINTS, experiment.STARTS, experiment.SEARCHES):
        assert plan.amount(limits) == limits[1]
        assert limits[0] <= large.amount(limits) < limits[1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--features 16", "--features is 16; expected at most prompts * (responses - 1) = 15"),
        ("--features 0", "--features is 0; expected at least 1"),
        ("--prompts 0", "--prompts is 0; expected at least 1"),
        ("--responses 1", "--responses is 1; expected at least 2"),
        ("--seeds 1", "--seeds is 1; expected at least 2"),
        ("--samples 0", "--samples is 0; expected at least 1000"),
        ("--samples -5", "--samples is -5; expected at least 1000"),
        ("--beta 0", "--beta is 0.0; expected a number from"),
        ("--beta -1", "--beta is -1.0; expected a number from"),
        ("--beta nan", "--beta is nan; expected a number from"),
        ("--beta 1e200", "--beta is 1e+200; expected a number from"),
        ("--radius 0", "--radius is 0.0; expected a number from"),
        ("--radius inf", "--radius is inf; expected a number from"),
        ("--gammas 0,-0.1", "--gammas is 0,-0.1; expected numbers"),
        ("--gammas 0", "--gammas is 0; expected numbers"),
        ("--gammas 0,nan", "--gammas is 0,nan; expected numbers"),
        ("--gammas 1e308", "--gammas is 1e308; expected numbers"),
        ("--gammas a,b", "--gammas is a,b; expected numbers"),
        ("--responses 200000", "--prompts 3, --responses 200000 and --features 4 need about"),
        ("--prompts 30000 --features 30000", "--prompts 30000, --responses 6 and --features 30000"),
        ("--out /dev/null/x", "--out /dev/null/x: cannot be written"),
    ],
)
def test_an_invalid_option_is_a_one_line_error(options: str, message: str) -> None:
    with pytest.raises(UserError) as error:
        command.main(parse(*options.split()))
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)


def test_a_folder_on_a_read_only_disk_is_refused_before_anything_is_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(path: Path) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))

    monkeypatch.setattr(Path, "touch", refused)
    with pytest.raises(UserError, match=f"--out {tmp_path}: cannot be written: Read-only"):
        command.check(parse("--out", str(tmp_path)))


def test_ctrl_c_while_the_workers_start_gives_one_line(tmp_path: Path) -> None:
    # In the background of a shell, SIGINT is ignored, also by processes that are started there.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    process = subprocess.Popen(
        [*PROGRAM, "theory", "--seeds", "20", "--out", str(tmp_path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    signal.signal(signal.SIGINT, before)
    started = psutil.Process(process.pid)
    workers: list[psutil.Process] = []
    while not any("libtorch" in file.path for worker in workers for file in worker.memory_maps()):
        assert process.poll() is None
        workers = [c for c in started.children() if "spawn_main" in str(c.cmdline())]
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert (process.returncode, said) == (130, "mujoco-sail: interrupted\n")
    assert not any(worker.is_running() for worker in workers)
