"""Python interface: train agents, read results and compare agents. See docs/python.md."""

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
    """Raised when runs failed, with one line per failure. All other runs are complete."""


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
    """Trains agents on environments, like `mujoco-sail run`.

    Runs that are complete in the results folder are not repeated, and interrupted runs are resumed
    from their last checkpoints. Training takes place in worker processes. They do not run the
    calling script, so `if __name__ == "__main__":` is not required. Progress is printed. Ctrl-C, or
    the interrupt of a notebook, writes checkpoints of all runs and raises `KeyboardInterrupt`; the
    same call then resumes the runs.

    Args:
        env: Name or path of an environment recipe, or several of them.
        agents: Name or path of an agent recipe, or several of them.
        seeds: Number of seeds (3 means 0, 1 and 2), or the seeds themselves.
        protocol: Protocol: "paper", "study" or "quick".
        overrides: Values by keys, which are those of `--set`: `env.KEY` or `agent.NAME.KEY`.
        teacher: Teachers separated by "+", such as "noisy+skip"; replaces that of the recipe.
        device: Device: "auto", "cpu" or "cuda".
        results: Folder to which the runs are written, as `<env>/<agent>/seed_<n>/`.

    Returns:
        The requested runs.

    Raises:
        UserError: A name, a value or a folder is invalid; the message has one or two lines.
        TrainingError: Runs failed.
        KeyboardInterrupt: The training was interrupted.

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
    from mujoco_sail.training import command, plan, pool  # noqa: PLC0415 (PyTorch is slow to import)

    place, envs = _folder(results), _joined(env)
    settings = [_override(key, value) for key, value in (overrides or {}).items()]
    with _alone():
        chosen = plan.choose_device(device)
        grid = command.load(envs, _joined(agents), _seeds(seeds), protocol, settings, teacher)
        try:
            failures = command.train(grid, envs, chosen, place)
        except pool.Interrupted as stop:
            lines = [*map(command.told, stop.failures), "stopped; the same call resumes from here"]
            print(*lines, sep="\n", flush=True)
            signal.raise_signal(stop.number)  # handled as usual, by default KeyboardInterrupt
            raise KeyboardInterrupt from None
    lines = [command.told(failure) for failure in failures]
    if failures and all(failure.refused for failure in failures):
        raise UserError(*lines)
    if failures:
        raise TrainingError("\n".join(lines))
    return tidy([read(each) for each in command.run_folders(grid, place)])


def read_results(folder: str | os.PathLike[str] = "results") -> Results:
    """Reads all runs of a results folder into tidy DataFrames.

    Runs that must not be pooled (see `compare`) are read too. If a folder has several protocols or
    teachers, group by the columns `protocol` and `teacher` of the table `runs`.

    Args:
        folder: Folder with `<env>/<agent>/seed_<n>/`.

    Returns:
        The tables `runs`, `evaluations`, `training` and `feedback`.

    Raises:
        UserError: There are no runs, or a file is damaged; the message names the file.

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
    """Compares the agents of a results folder, like `mujoco-sail table`.

    Args:
        results: Folder with `<env>/<agent>/seed_<n>/`.
        baseline: Agent with which the others are compared.
        margin: Largest difference that counts as equivalence, relative to the difference between
            `sac` and `random`.

    Returns:
        Statistics of each environment, paired by seed, and pooled over environments.

    Raises:
        UserError: There are no runs, a file is damaged, the baseline is unknown, or runs cannot be
            pooled because those of one environment differ in protocol, teacher, label budget or
            versions, or those of one agent in a hyperparameter.

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
    """Checks that `train` is called in the main thread and is not running already.

    Raises:
        UserError: Another call is running, or this is not the main thread.
    """
    if threading.current_thread() is not threading.main_thread():
        raise UserError("train: call it in the main thread, the only one that Ctrl-C can stop")
    if not _training.acquire(blocking=False):
        raise UserError(
            "train was called while it is running; an agent's module must not call train"
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
    """Names and paths in the syntax of the command line."""
    if isinstance(names, str | os.PathLike):
        return os.fspath(names)
    return ",".join(os.fspath(name) for name in names)


def _seeds(seeds: int | Iterable[int]) -> str:
    """Seeds in the syntax of the command line."""
    try:
        if isinstance(seeds, Iterable):
            return ",".join(str(operator.index(seed)) for seed in seeds) + ","
        return str(operator.index(seeds))
    except TypeError as error:
        raise UserError(
            f"seeds is {seeds!r}; expected a whole number such as 3, or a list such as [0, 1, 2]"
        ) from error


def _override(key: str, value: object) -> str:
    """Setting in the syntax of the command line."""
    plain = value.item() if isinstance(value, np.generic) else value
    try:
        text = tomli_w.dumps({"value": plain})
    except (TypeError, ValueError):
        text = ""
    if not text.startswith("value = "):
        raise UserError(
            f"--set {key}: {value!r} is not a valid value in a recipe; expected a number, a text, "
            "true or false, or a list of them"
        )
    return f"{key}={text.removeprefix('value = ').strip()}"
