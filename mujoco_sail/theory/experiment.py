"""Measurements of `mujoco-sail theory` as tidy tables; each seed is a problem with its runs."""

import multiprocessing
import signal
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from mujoco_sail.core.streams import Streams
from mujoco_sail.system.machine import available_cores
from mujoco_sail.system.signals import signals_to_all_blocked
from mujoco_sail.theory import picking, truncation
from mujoco_sail.theory.ascent import Ascents, maximise
from mujoco_sail.theory.direct import DRAWS, DirectSail
from mujoco_sail.theory.exact import in_chunks, kl_to_reference, objective
from mujoco_sail.theory.landscape import curvature, worst_ratios
from mujoco_sail.theory.problem import Problem, ball, draw
from mujoco_sail.training.spawning import CONTEXT

SEEDS_AT_ONCE = 5  # for any number of cores, so that results do not depend on it
BATCH = 32  # preferences per stochastic step
RATES = (30.0, 100.0, 300.0, 1000.0)
CHECKPOINTS = 30
DECISIONS = 2  # decision problems per seed
EFFORT = 1 << 18  # pairs to enumerate per problem, from which the number of points follows
POINTS, STARTS, SEARCHES = (100, 2000), (3, 64), (3, 16)  # minimum and maximum per problem

Tables = dict[str, pd.DataFrame]


@dataclass(frozen=True)
class Experiment:
    """Settings of `mujoco-sail theory`.

    Attributes:
        prompts: P.
        responses: K.
        features: D, at most P (K - 1).
        beta: Scale of the implicit reward, > 0.
        gammas: Weights of the anchor, increasing from 0.
        radius: Radius of the ball of parameters, > 0.
        seeds: Number of problems, each with its own points, starts and runs.
        samples: Preferences per stochastic run.
    """

    prompts: int
    responses: int
    features: int
    beta: float
    gammas: tuple[float, ...]
    radius: float
    seeds: int
    samples: int

    def amount(self, limits: tuple[int, int]) -> int:
        """Number of points to enumerate per problem, smaller for larger problems."""
        least, most = limits
        return max(least, min(most, EFFORT // (self.prompts * self.responses**2)))

    def describe(self) -> str:
        """Describes the problems and the measurements in one line."""
        return (
            f"{self.seeds} problems of {self.prompts} prompts, {self.responses} responses and "
            f"{self.features} features; of each {self.amount(POINTS)} points, "
            f"{self.amount(STARTS)} ascents, {self.amount(SEARCHES)} searches and, for each of "
            f"{len(RATES)} rates, a run of {self.samples} preferences, at {len(self.gammas)} gammas"
            f"; then {DECISIONS * self.seeds} decision problems of several steps"
        )


def run(experiment: Experiment, report: Callable[[str], None]) -> Tables:
    """Runs all measurements on all cores.

    Args:
        experiment: The settings.
        report: Called with lines about the progress.

    Returns:
        The tables of `measure` and `measure_decisions`, all seeds.
    """
    seeds = range(experiment.seeds)
    parts = [seeds[i : i + SEEDS_AT_ONCE] for i in seeds[::SEEDS_AT_ONCE]]
    workers = min(available_cores(), len(parts))
    tables = []
    with ProcessPoolExecutor(workers, CONTEXT, _prepare) as pool:
        try:
            with signals_to_all_blocked():  # the workers start here
                futures = [pool.submit(_measure_all, experiment, part) for part in parts]
            for part, future in zip(parts, futures, strict=True):
                tables.append(future.result())
                report(f"seeds {part[0]} to {part[-1]} done ({part[-1] + 1} of {len(seeds)})")
        except BaseException:
            for worker in multiprocessing.active_children():
                worker.terminate()  # or the pool first measures all the other seeds
            raise
    return {name: pd.concat([t[name] for t in tables], ignore_index=True) for name in tables[0]}


def _prepare() -> None:
    """Prepares a worker: one thread; Ctrl-C is handled by the main process."""
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def _measure_all(experiment: Experiment, seeds: Sequence[int]) -> Tables:
    return measure(experiment, seeds) | measure_decisions(seeds)


def measure_decisions(seeds: Sequence[int]) -> Tables:
    """Tables `truncation` and `picking` for `DECISIONS` problems per seed.

    Problem i of seed n has the number `DECISIONS` n + i.
    """
    problems = [DECISIONS * seed + i for seed in seeds for i in range(DECISIONS)]
    return {"truncation": truncation.measure(problems), "picking": picking.measure(problems)}


def measure(experiment: Experiment, seeds: Sequence[int]) -> Tables:
    """Measures four tables for some seeds, a row per seed and gamma (and rate, and checkpoint).

    `curvature`: fraction of points where J_g is not concave; quantiles of the largest eigenvalue
    of the Hessian over the points; smoothness, its largest absolute eigenvalue.
    `pl_ratio`: smallest ratio of the points, smallest found by search, and its projected form.
    `bias`: J_g*, gap between the two best ascents, share of the ascents from random starts that
    reach it; distance of the maximiser to that of J and to theta_ref, its KL, its loss
    J* - J, and that loss as a share of J* - J(theta_ref).
    `convergence`: suboptimality J_g* - J_g and loss J* - J of the stochastic runs.
    """
    e = experiment
    problem = draw(seeds, e.prompts, e.responses, e.features, e.beta, e.radius)
    origin = problem.origin[:, None]
    points = ball(problem, seeds, e.amount(POINTS), "points")
    starts = ball(problem, seeds, e.amount(STARTS), "starts")

    bends = curvature(problem, torch.cat([origin, points], 1))
    eigenvalues = [bends.eigenvalues(gamma) for gamma in e.gammas]
    smoothness = torch.stack([values.abs().amax((1, 2)) for values in eigenvalues], 1)
    runs, reached = stochastic_runs(problem, seeds, e, smoothness)

    ascents: dict[float, Ascents] = {}
    previous = origin  # maximiser for the next larger gamma
    for column, gamma in reversed(list(enumerate(e.gammas))):
        ends = reached[:, :, column]
        ascents[gamma] = maximise(problem, gamma, torch.cat([starts, previous, ends], 1))
        previous = ascents[gamma].maximiser[:, None]

    tables: dict[str, list[pd.DataFrame]] = {"curvature": [], "pl_ratio": [], "bias": []}
    for column, gamma in enumerate(e.gammas):
        found, cap = ascents[gamma], smoothness[:, column]
        parts: list[dict[str, Any]] = [
            {**_curvature(eigenvalues[column][:, 1:, -1]), "smoothness": cap},
            worst_ratios(problem, gamma, found, cap, points, e.amount(SEARCHES)),
            {
                "maximum": found.maximum,
                "gap_of_best_two": found.gap,
                "share_of_ascents_at_maximum": found.share_at_maximum(starts.shape[1]),
                **_bias(problem, ascents[0.0].maximiser, found.maximiser),
            },
        ]
        for table, columns in zip(tables.values(), parts, strict=True):
            table.append(pd.DataFrame({"seed": list(seeds), "gamma": gamma, **columns}))
    joined = {name: pd.concat(rows, ignore_index=True) for name, rows in tables.items()}
    return {**joined, "convergence": _suboptimality(runs, joined["bias"])}


def stochastic_runs(
    problem: Problem, seeds: Sequence[int], e: Experiment, smoothness: Tensor
) -> tuple[pd.DataFrame, Tensor]:
    """Projected stochastic gradient ascent for every gamma and rate a, step size min(1 / L, a / t).

    All runs of a seed use the same uniform random numbers.

    Args:
        problem: S problems.
        seeds: Seeds of the problems, [S].
        e: The experiment.
        smoothness: L for every gamma, [S, gammas].

    Returns:
        J_g and J at checkpoints, and the final parameters, [S, rates, gammas, D].
    """
    gammas = torch.tensor(e.gammas, dtype=torch.float64).repeat(len(RATES))
    rates = torch.tensor(RATES, dtype=torch.float64).repeat_interleave(len(e.gammas))
    cap = 1 / smoothness.repeat(1, len(RATES))
    agent = DirectSail(problem, gammas)
    streams = Streams(seeds, "preferences", torch.device("cpu"))
    updates = e.samples // BATCH
    checkpoints = {round(t) for t in np.geomspace(1, updates, CHECKPOINTS)}
    index = pd.MultiIndex.from_product([seeds, RATES, e.gammas], names=["seed", "rate", "gamma"])
    tables = []
    for t in range(1, updates + 1):
        uniform = streams.uniform(1, BATCH, DRAWS).double()
        agent.update(uniform, torch.minimum(rates / t, cap))
        if t in checkpoints:
            (j,) = in_chunks(lambda *x: (objective(*x),), problem, agent.theta)
            columns = {
                "samples": t * BATCH,
                "regularised": (j - gammas * kl_to_reference(problem, agent.theta)).flatten(),
                "objective": j.flatten(),
            }
            tables.append(pd.DataFrame(columns, index=index).reset_index())
    shape = (len(seeds), len(RATES), len(e.gammas), -1)
    return pd.concat(tables, ignore_index=True), agent.theta.reshape(shape)


def _curvature(largest: Tensor) -> dict[str, Tensor | int]:
    """Columns for one gamma: quantiles of the largest eigenvalue [S, N] over the points."""
    levels = torch.tensor([0.05, 0.5, 0.95], dtype=torch.float64)
    low, middle, high = torch.quantile(largest, levels, 1)
    return {
        "points": largest.shape[1],
        "share_not_concave": (largest > 0).double().mean(-1),
        "largest_eigenvalue_5%": low,
        "largest_eigenvalue_50%": middle,
        "largest_eigenvalue_95%": high,
        "largest_eigenvalue_max": largest.amax(-1),
    }


def _bias(problem: Problem, free: Tensor, theta: Tensor) -> dict[str, Tensor]:
    """Columns for one gamma: bias by the anchor, from the maximisers of J and J_g, [S, D]."""
    at_free, at_theta, at_origin = (
        objective(problem, x[:, None])[:, 0] for x in (free, theta, problem.origin)
    )
    return {
        "norm": theta.norm(dim=-1),
        "distance": (theta - free).norm(dim=-1),
        "distance_to_reference": (theta - problem.origin).norm(dim=-1),
        "kl": kl_to_reference(problem, theta[:, None])[:, 0],
        "loss": at_free - at_theta,
        "loss_share": (at_free - at_theta) / (at_free - at_origin),
    }


def _suboptimality(runs: pd.DataFrame, bias: pd.DataFrame) -> pd.DataFrame:
    """Suboptimality and loss of the runs, relative to the maxima J_g* and J*."""
    maximum = bias.set_index(["seed", "gamma"])["maximum"]
    best = maximum.reindex(pd.MultiIndex.from_frame(runs[["seed", "gamma"]])).to_numpy()
    free = maximum.xs(0.0, level="gamma").reindex(runs["seed"]).to_numpy()
    table = runs[["seed", "gamma", "rate", "samples"]].copy()
    table["suboptimality"] = best - runs["regularised"]
    table["loss"] = free - runs["objective"]
    return table
