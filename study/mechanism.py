"""Accuracy of T2 and its effect on the next session, for docs/study.md.

    python study/mechanism.py snapshots --env walker_walk --out running/mechanism
    python study/mechanism.py gradients --env walker_walk --out running/mechanism
    python study/mechanism.py refits    --env walker_walk --out running/mechanism

`snapshots` trains PEBBLE with uniform queries and saves it just before some sessions. `gradients`
compares estimates of T2 at these snapshots with a reference from many new episodes. `refits` fits
the reward with several weights of T2, trains until the next session, and evaluates the new policy.
Complete parts are not repeated. The results are in `gradients_*.csv` and `refits_*.csv`.
"""

import argparse
import multiprocessing
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import estimators
import pandas as pd
import torch
from rollouts import Episodes, play
from stacks import stack
from torch import Tensor

from mujoco_sail.agents.reward_model import margin
from mujoco_sail.agents.sampling_term import SamplingTerm, inner
from mujoco_sail.core.objectives import log_likelihood
from mujoco_sail.core.streams import Streams
from mujoco_sail.preferences.pairs import Pairs
from mujoco_sail.recipes.task import Task
from mujoco_sail.system.files import write_text

SEEDS, CHUNK, PROCESSES = 20, 5, 2  # members, members per stack, parallel stacks
SESSIONS = (5, 12, 25)
# Reference: episodes of the snapshot's stochastic policy, and segments from each half of them.
EPISODES, SEGMENTS = 100, 2000
DRAWS = 2  # draws of the policy's actions
LABELS = {10: 8, 50: 4, 250: 2}  # labels per estimate -> number of estimates
UNLABELLED, REPEATS = 250, 2  # pairs labelled by the model, and number of estimates
WINDOWS = (1, 5, 20)  # numbers of newest episodes from which pairs are drawn
# Variants of the refit: unit and value of lambda, and index of the random batches.
REFITS = [
    ("share", 0.0, 0),
    ("share", 0.0, 1),
    ("share", 0.03, 0),
    ("share", 0.1, 0),
    ("share", 0.3, 0),
    ("share", 1.0, 0),
    ("exact", 1.0, 0),
]
EVALUATION_EPISODES, EVALUATION_PAIRS = 10, 1000


def before(task: Task, session: int) -> int:
    """Last step before a session."""
    return task.first_session + (session - 1) * task.session_every - 1


# --- snapshots ---


def snapshots(env: str, out: Path, seeds: Sequence[int]) -> None:
    """Trains a stack and saves it before each of `SESSIONS`."""
    paths = [snapshot(env, out, seeds, session) for session in SESSIONS]
    if all(path.exists() for path in paths):
        return
    trained = stack(env, seeds)
    for session, path in zip(SESSIONS, paths, strict=True):
        trained.train(before(trained.task, session))
        trained.save(path)


def snapshot(env: str, out: Path, seeds: Sequence[int], session: int) -> Path:
    """Path of a snapshot."""
    return out / f"{env}_seed{seeds[0]}_session{session}.pt"


# --- gradients ---


def gradients(env: str, out: Path, seeds: Sequence[int]) -> Iterator[dict[str, Any]]:
    """Rows that compare each estimate of T2 with the reference, per network."""
    for session in SESSIONS:
        at = stack(env, seeds)
        at.load(snapshot(env, out, seeds, session))
        agent = at.agent
        episodes = play(agent, EPISODES, f"reference {session}")
        half = EPISODES // 2
        one, other = (
            reference(agent, episodes.part(part), session, index)
            for index, part in enumerate((slice(half), slice(half, EPISODES)))
        )
        mean = [0.5 * (a + b) for a, b in zip(one, other, strict=True)]
        about = {"env": env, "session": session}
        t1_grad = agent.reward_model.gradient(agent.pairs, agent.labels)
        t1 = inner(t1_grad, t1_grad, agent.settings.ensemble).sqrt()
        extra = {"t1_norm": t1, "alpha": agent.alpha.expand_as(t1)}
        yield from rows(agent, {**about, "estimate": "reference"}, one, other, extra)
        for place, estimate in estimates(agent, session):
            yield from rows(agent, {**about, **place}, estimate, mean, {})


def estimates(agent: Any, session: int) -> Iterator[tuple[dict[str, Any], list[Tensor]]]:
    """Estimates of T2 with their estimator, number of newest episodes and number of labels."""
    for window in WINDOWS:
        streams = agent.streams(f"estimates {window}", session)
        models = []
        for repeat in range(REPEATS):
            pairs = newest(agent, window, UNLABELLED, streams)
            factor = estimators.by_model(agent.reward_model.margin(pairs))
            models.append(gradient(agent, pairs, factor, streams))
            place = {"estimate": "model", "window": window, "labels": 0, "repeat": repeat}
            yield place, models[repeat]
        for count, repeats in LABELS.items():
            for repeat in range(repeats):
                pairs = newest(agent, window, count, streams)
                difference, label = agent.reward_model.margin(pairs), pairs.true_labels()
                place = {"window": window, "labels": count, "repeat": repeat}
                factor = estimators.by_labels(difference, label)
                yield {"estimate": "labels", **place}, gradient(agent, pairs, factor, streams)
                beyond = gradient(agent, pairs, estimators.correction(difference, label), streams)
                model = models[repeat % REPEATS]
                whole = [a + b for a, b in zip(model, beyond, strict=True)]
                yield {"estimate": "corrected", **place}, whole
    for sessions in (1, 5, session - 1):
        count = min(sessions, session - 1) * agent.task.labels_per_session
        at = slice(agent.labels.shape[1] - count, None)
        pairs, label = agent.pairs.part(at), agent.labels[:, at]
        factor = estimators.by_labels(agent.reward_model.margin(pairs), label)
        place = {"estimate": "sessions", "window": sessions, "labels": count, "repeat": 0}
        yield place, gradient(agent, pairs, factor, agent.streams(f"sessions {sessions}", session))


def newest(agent: Any, window: int, count: int, streams: Streams) -> Pairs:
    """Pairs drawn uniformly from the newest complete episodes and the current one."""
    buffer, steps = agent.replay_buffer, agent.task.segment_steps
    starts = buffer.episode_starts
    buffer.episode_starts = [row[-window - 1 :] for row in starts]
    try:
        return Pairs.drawn(buffer, streams, count, steps)
    finally:
        buffer.episode_starts = starts


def reference(agent: Any, episodes: Episodes, session: int, index: int) -> list[Tensor]:
    """T2 from all pairs of many segments of new episodes, with their true labels."""
    streams = agent.streams(f"reference {index}", session)
    alone = episodes.segments(streams, SEGMENTS, agent.task.segment_steps, sides=1)
    with torch.no_grad():
        returns = agent.reward_model.rewards(alone.inputs.unsqueeze(1)).sum((-1, -2))  # [M, E, N]
    task_returns = alone.task_reward.sum((-1, -2))
    factor = estimators.by_all_pairs(returns, task_returns)
    return gradient(agent, alone, factor, streams)


def gradient(agent: Any, pairs: Pairs, factor: Tensor, streams: Streams) -> list[Tensor]:
    """Estimate of T2 at the parameters of the snapshot, computed in chunks of pairs.

    Estimates with equal streams share the noise of their actions, and so are not independent.
    """
    total = [torch.zeros_like(layer) for layer in agent.reward_model.net.layers]
    count = factor.shape[-1]
    for first in range(0, count, 50):
        at = slice(first, first + 50)
        term: SamplingTerm = agent.sampling_term(pairs.part(at), factor[..., at])
        share = term.factor.shape[-1] / count
        grad = term.gradient(agent.reward_model.net, agent.reward_model.rewards, streams, DRAWS)
        total = [sum_ + share * g for sum_, g in zip(total, grad, strict=True)]
    return total


def rows(
    agent: Any,
    place: dict[str, Any],
    one: list[Tensor],
    other: list[Tensor],
    extra: dict[str, Tensor],
) -> Iterator[dict[str, Any]]:
    """One row per network with the inner products of two gradients."""
    networks = agent.settings.ensemble
    values = {
        "inner": inner(one, other, networks),
        "square": inner(one, one, networks),
        "square_of_other": inner(other, other, networks),
        **extra,
    }
    for m, seed in enumerate(agent.runner.seeds):
        for e in range(networks):
            of_network = {key: float(value[m, e]) for key, value in values.items()}
            yield {**place, "seed": seed, "network": e, **of_network}


# --- refits ---


def refits(env: str, out: Path, seeds: Sequence[int]) -> Iterator[dict[str, Any]]:
    """Rows with the results of a fit with T2 at the next session."""
    for session in SESSIONS:
        for unit, value, batches in REFITS:
            at = stack(env, seeds, **{"lambda": value, "lambda_unit": unit})
            at.load(snapshot(env, out, seeds, session))
            agent = at.agent
            agent.lambda_ = agent.per_member("lambda_")  # the snapshot has lambda 0
            agent.batches = batches
            at.train(before(at.task, session + 1))
            episodes = play(agent, EVALUATION_EPISODES, f"after {session}")
            streams = agent.streams("pairs after", session)
            pairs = episodes.segments(streams, EVALUATION_PAIRS, at.task.segment_steps)
            label = pairs.true_labels()
            with torch.no_grad():
                rewards = agent.reward_model.rewards(pairs.inputs.unsqueeze(1))
                difference = margin(rewards, pairs.valid.unsqueeze(1))
                log_p = log_likelihood(difference, label.unsqueeze(1)).mean((1, 2))
                right = ((difference > 0) == (label.unsqueeze(1) > 0.5)).float().mean((1, 2))
            values = {
                "log_p": log_p,
                "accuracy": right,
                "return": episodes.task_reward.sum(-1).mean(-1),
                "fitted_accuracy": agent.logged["reward_accuracy"],
                "share": agent.logged["t2_share"],
                "signal": agent.logged["t2_signal"],
            }
            for m, seed in enumerate(seeds):
                place = {"env": env, "session": session, "seed": seed}
                arm = {"unit": unit, "lambda": value, "batches": batches}
                yield {**place, **arm, **{key: float(v[m]) for key, v in values.items()}}


# --- all stacks ---


def work(stage: str, env: str, out: Path, first: int) -> str:
    """Runs one stage for one stack, in a separate process."""
    torch.set_num_threads(1)
    seeds = range(first, first + CHUNK)
    if stage == "snapshots":
        snapshots(env, out, seeds)
    else:
        path = out / f"{stage}_{env}_seed{first}.csv"
        if not path.exists():
            made = {"gradients": gradients, "refits": refits}[stage](env, out, seeds)
            write_text(path, pd.DataFrame(made).to_csv(index=False, float_format="%.6g"))
    return f"{stage} {env} seeds {first} to {first + CHUNK - 1}"


def main() -> None:
    """Runs a stage for all seeds."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("stage", choices=["snapshots", "gradients", "refits"])
    parser.add_argument("--env", required=True)
    parser.add_argument("--out", type=Path, required=True)
    asked = parser.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    with multiprocessing.get_context("spawn").Pool(PROCESSES) as pool:
        each = partial(work, asked.stage, asked.env, asked.out)
        for done in pool.imap_unordered(each, range(0, SEEDS, CHUNK)):
            print(done, flush=True)


if __name__ == "__main__":
    main()
