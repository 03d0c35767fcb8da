"""The Python interface: train, read results, compare agents. See docs/python.md."""

import operator
import os
import signal
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import tomli_w

from mujoco_sail.analysis.comparison import Comparison
from mujoco_sail.analysis.defaults import BASELINE, MARGIN, check_margin
from mujoco_sail.analysis.tables import check_baseline
from mujoco_sail.results.pooling import collect, read_all
from mujoco_sail.results.read import read
from mujoco_sail.results.tidy import Results, tidy
from mujoco_sail.system.errors import UserError
from mujoco_sail.system.files import location

__all__ = [
    "Comparison",
    "Results",
    "TrainingError",
    "UserError",
    "compare",
    "read_results",
    "train",
]

Names = str | os.PathLike[str] | Iterable[str | os.PathLike[str]]


_training = threading.Lock()


class TrainingError(RuntimeError):
    """Runs failed: the message names them, a line for each reason. Other runs are complete."""


def train(
    env: Names,
    agents: Names,
    *,
    seeds: int | Iterable[int] = 3,
    protocol: str = "paper",
    overrides: Mapping[str, object] | None = None,
    teacher: str | None = None,
    device: str = "auto",
    results: str | os.PathLike[str] = "results",
) -> Results:
    """Trains agents on environments, as `mujoco-sail run` does.

    A run that is complete in the folder is not repeated, and one that was cut off goes on from its
    last checkpoint. Worker processes train; they do not run the script that calls this function,
    so it needs no `if __name__ == "__main__":`. Progress is printed. Ctrl-C, or the interrupt of a
    notebook, saves all runs and raises `KeyboardInterrupt`; the same call goes on from there.

    Args:
        env: Name or path of an environment's recipe, or several of them.
        agents: Name or path of an agent's recipe, or several of them.
        seeds: How many (3 means 0, 1 and 2), or the seeds themselves.
        protocol: "paper", "study" or "quick".
        overrides: Values by the keys of `--set`: `env.KEY` or `agent.NAME.KEY`.
        teacher: Teachers joined by "+", such as "noisy+skip", in place of the recipe's.
        device: "auto", "cpu" or "cuda".
        results: Folder that the runs are written to, as `<env>/<agent>/seed_<n>/`.

    Returns:
        The runs that were asked for.

    Raises:
        UserError: A name, a value or a folder cannot be used; the message is one or two lines.
        TrainingError: Runs failed.
        KeyboardInterrupt: It was interrupted.

    Example:
        >>> import mujoco_sail
        >>> trained = mujoco_sail.train(
        ...     "walker_stand",
        ...     ["pebble", "sail"],
        ...     seeds=5,
        ...     protocol="quick",
        ...     overrides={"env.steps": 20_000, "agent.sail.lambda": 0.3},
        ...     results="demo",
        ... )
        >>> trained.evaluations.groupby(["agent", "step"])["episode_return"].mean()
    """
    from mujoco_sail.training import command, pool  # noqa: PLC0415 (PyTorch is slow to import)

    place, envs = _folder(results), _joined(env)
    settings = [_override(key, value) for key, value in (overrides or {}).items()]
    with _alone():
        chosen = pool.choose_device(device)
        grid = command.load(envs, _joined(agents), _seeds(seeds), protocol, settings, teacher)
        try:
            failures = command.train(grid, envs, chosen, place)
        except pool.Interrupted as stop:
            print("stopped; the same call goes on from here", flush=True)
            signal.raise_signal(stop.args[0])  # it takes its course, by default KeyboardInterrupt
            raise KeyboardInterrupt from None
    lines = [command.told(failure) for failure in failures]
    if failures and all(failure.refused for failure in failures):
        raise UserError(*lines)
    if failures:
        raise TrainingError("\n".join(lines))
    return tidy([read(each) for each in command.run_folders(grid, place)])


def read_results(folder: str | os.PathLike[str] = "results") -> Results:
    """Reads all runs of a results folder into tidy DataFrames.

    Runs that must not be pooled (see `compare`) are read all the same: group by `protocol` and
    `teacher` of the table `runs` where a folder has several.

    Args:
        folder: Folder with `<env>/<agent>/seed_<n>/`.

    Returns:
        The tables `runs`, `evaluations`, `training` and `feedback`.

    Raises:
        UserError: There are no runs, or a file is damaged; it is named.

    Example:
        >>> import mujoco_sail
        >>> evaluations = mujoco_sail.read_results("results/study").evaluations
        >>> last = evaluations.groupby(["env", "agent", "seed"]).last()
    """
    return tidy(read_all(_folder(folder)))


def compare(
    results: str | os.PathLike[str] = "results",
    *,
    baseline: str = BASELINE,
    margin: float = MARGIN,
) -> Comparison:
    """Compares the agents of a results folder, as `mujoco-sail table` does.

    Args:
        results: Folder with `<env>/<agent>/seed_<n>/`.
        baseline: Agent that the others are compared with.
        margin: Differences within it count as equivalence, as a share of what `sac` gains on
            `random`.

    Returns:
        The statistics of each environment, paired by seed, and pooled over environments.

    Raises:
        UserError: There are no runs, a file is damaged, the baseline is unknown, or runs must
            not be pooled: two of one environment differ in protocol, teacher, label budget or
            versions, or two of one agent in a hyperparameter.

    Example:
        >>> import mujoco_sail
        >>> comparison = mujoco_sail.compare("results/study")
        >>> comparison.pooled[["agent", "iqm", "iqm_low", "iqm_high", "d", "p_holm"]]
        >>> for sentence in comparison.verdicts:
        ...     print(sentence)
    """
    check_margin(margin)
    runs = collect(_folder(results))
    check_baseline(baseline, runs)
    return Comparison(baseline, margin, runs)


@contextmanager
def _alone() -> Iterator[None]:
    """Refuses a second `train` at a time, and one in a thread that no signal reaches.

    Raises:
        UserError: It is one of these.
    """
    if threading.current_thread() is not threading.main_thread():
        raise UserError("train: call it in the main thread, the only one that Ctrl-C can stop")
    if not _training.acquire(blocking=False):
        raise UserError(
            "train was called while it works; put an agent's class in a module that trains nothing"
        )
    try:
        yield
    finally:
        _training.release()


def _folder(name: str | os.PathLike[str]) -> Path:
    try:
        return location(os.fspath(name))
    except ValueError as error:
        raise UserError(f"--results {name}: {error}") from error


def _joined(names: Names) -> str:
    """Names and paths as the command line takes them."""
    if isinstance(names, str | os.PathLike):
        return os.fspath(names)
    return ",".join(os.fspath(name) for name in names)


def _seeds(seeds: int | Iterable[int]) -> str:
    """Seeds as the command line takes them."""
    if isinstance(seeds, Iterable):
        return ",".join(str(operator.index(seed)) for seed in seeds) + ","
    return str(operator.index(seeds))


def _override(key: str, value: object) -> str:
    """A setting as the command line takes it."""
    plain = value.item() if isinstance(value, np.generic) else value
    try:
        text = tomli_w.dumps({"value": plain})
    except (TypeError, ValueError):
        text = ""
    if not text.startswith("value = "):
        raise UserError(
            f"--set {key}: {value!r} is no value of a recipe; expected a number, a text, "
            "true or false, or a list of them"
        )
    return f"{key}={text.removeprefix('value = ').strip()}"
