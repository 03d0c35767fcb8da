"""How the fuzz tests try the program: how often, a watch over writes, the command line.

The counts of cases are those of `make test`, where every run draws the same ones. For a longer
hunt with random ones, ten times as many:

    pytest -k test_fuzz --hypothesis-profile=hunt
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

# Figures: before anybody watches, for Matplotlib makes folders of its own.
import pytest
from hypothesis import HealthCheck, settings

from mujoco_sail.analysis.figures import drawing  # noqa: F401
from mujoco_sail.cli import main
from mujoco_sail.environments import factory
from mujoco_sail.results.write import RunWriter, commit, run_folder
from mujoco_sail.training import forecast, plan, pool, selection

# At least 5000 together.
CASES = {
    "environment recipes": 1450,
    "agent recipes": 700,
    "arguments": 1400,
    "other commands": 150,
    "results": 850,
    "resumed results": 250,
    "names": 150,
    "figures": 40,
    "reports": 20,
    "figure recipes": 250,
}


def cases(kind: str) -> settings:
    """How many cases a test sees: as declared above, times what the profile says."""
    return settings(
        max_examples=CASES[kind] * settings.default.max_examples // 100,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )


# --- the watch ---------------------------------------------------------------------------------

# Audit events by which Python changes files, and which of their arguments are the paths.
CHANGES = {
    **dict.fromkeys(("os.mkdir", "os.remove", "os.rmdir", "os.truncate", "os.chmod"), (0,)),
    **dict.fromkeys(("os.rename", "os.link", "os.symlink"), (0, 1)),
}
# Events by which a file that is read could come to life.
CODE = ("pickle.find_class", "os.system", "os.exec", "subprocess.Popen")
watched: list[Path] | None = None  # where writing is allowed, while somebody watches


class Trespass(BaseException):
    """The program was about to write where it must not, or to run what it read."""


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    if watched is None:
        return
    if event in CODE:
        raise Trespass(f"{event} {arguments}")
    if event == "open":
        path, _, flags = arguments
        if isinstance(path, int) or not flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            return
        paths = [path]
    else:
        paths = [arguments[index] for index in CHANGES.get(event, ())]
    for path in paths:
        target = Path(os.fsdecode(path)).absolute()
        if event == "os.mkdir" and any(target in (f, *f.parents) for f in watched):
            continue
        # A link itself is replaced or removed; who opens it writes to what it points to.
        real = target.resolve() if event == "open" else target.parent.resolve() / target.name
        if not any(real.is_relative_to(folder.resolve()) for folder in watched):
            raise Trespass(f"{event} {target}")


sys.addaudithook(_audit)


@contextlib.contextmanager
def watch(*allowed: Path) -> Iterator[None]:
    """Nothing may be written outside of these folders, and no data may run.

    The folders themselves may be made, with their parents.
    """
    global watched  # noqa: PLW0603 -- an audit hook cannot be removed
    watched = [folder.absolute() for folder in allowed]
    try:
        yield
    finally:
        watched = None


@contextlib.contextmanager
def workplace() -> Iterator[Path]:
    """An empty working folder, deep enough that `../../x` stays inside of a temporary one."""
    old, path, bytecode = Path.cwd(), list(sys.path), sys.dont_write_bytecode
    with tempfile.TemporaryDirectory() as root:
        folder = Path(root).resolve() / "a" / "b" / "c"
        folder.mkdir(parents=True)
        os.chdir(folder)
        sys.dont_write_bytecode = True
        try:
            yield folder
        finally:
            os.chdir(old)
            sys.path[:], sys.dont_write_bytecode = path, bytecode


# --- the command line --------------------------------------------------------------------------


def ask(*arguments: str, allowed: Sequence[Path] = ()) -> tuple[int, str, str]:
    """Runs a command in this process.

    Checks what holds for every command: exit code 0 or 2, a refusal is one or two lines and
    nothing else, no control character reaches the terminal, and nothing is written but in the
    folders allowed.

    Returns:
        Exit code, standard output, standard error.
    """
    out, err = io.StringIO(), io.StringIO()
    with (
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        warnings.catch_warnings(),
        watch(*allowed),
    ):
        warnings.simplefilter("ignore")  # such as letters that a font lacks
        warnings.simplefilter("error", RuntimeWarning)  # numbers that overflow
        try:
            code = main(arguments)
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else 1
    said = out.getvalue(), err.getvalue()
    assert code in (0, 2), (code, *said)
    if code == 2:
        assert said[0] == ""
        check_message(said[1].removesuffix("\n"))
    else:
        assert said[1] == ""
    assert all(line.isprintable() for line in said[0].split("\n")), said[0]
    return code, *said


def check_message(message: str) -> None:
    """A message is one or two lines of at most a screen, fit for a terminal."""
    lines = message.split("\n")
    assert message
    assert len(lines) <= 2, message
    assert all(line.isprintable() for line in lines), message
    assert len(message) < 3000, len(message)


@contextlib.contextmanager
def no_training(known: Sequence[str]) -> Iterator[list[Path]]:
    """Where training would start, the files of each environment's first run are written instead.

    Args:
        known: Gymnasium ids that are taken as they are; making an environment takes long.

    Yields:
        The folders that were written.
    """
    written: list[Path] = []

    def execute(task: Any, members: Any, device: Any, results: Path, *more: Any) -> list[Any]:
        first = members[0]
        folder = run_folder(results, task, first.spec.name, first.seed)
        files = RunWriter(folder, task, first.spec, first.seed, "cpu")
        files.begin(None)
        files.add_training_row({"step": 1}, 1.0)
        files.write_status("complete", 1.0)
        written.append(folder)
        return []

    real_spaces = factory.space_sizes

    def space_sizes(task: Any) -> tuple[int, int]:
        return (1, 1) if task.id in known else real_spaces(task)

    # Once: git is asked, libraries are imported.
    commit()
    factory._known_ids()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pool, "execute", execute)
        patch.setattr(forecast, "seconds_needed", lambda *_: None)  # it trains for a moment
        for module in (factory, selection, plan, forecast):
            patch.setattr(module, "space_sizes", space_sizes)
        yield written
