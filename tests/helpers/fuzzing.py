"""Tools of the fuzz tests: numbers of cases, a guard against writes, calls of the command line.

The numbers of cases are those of `make test`, in which every run draws the same cases. For ten
times as many random cases:

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

# Figures are imported before the guard is active, because Matplotlib creates folders.
import pytest
from hypothesis import HealthCheck, settings

from mujoco_sail.analysis.figures import drawing  # noqa: F401
from mujoco_sail.cli import main
from mujoco_sail.environments import factory
from mujoco_sail.results.write import RunWriter, commit, run_folder
from mujoco_sail.training import forecast, plan, pool, selection

# At least 5000 in total.
CASES = {
    "environment recipes": 1450,
    "agent recipes": 700,
    "arguments": 800,
    "other commands": 150,
    "results": 450,
    "resumed results": 150,
    "names": 100,
    "figures": 30,
    "reports": 10,
    "figure recipes": 250,
    "requests": 1000,
}


def cases(kind: str) -> settings:
    """Settings with the number of cases above, scaled by the Hypothesis profile."""
    return settings(
        max_examples=CASES[kind] * settings.default.max_examples // 100,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )


# --- guard against writes ----------------------------------------------------------------------

# Audit events of changes of files, and the indices of their path arguments.
CHANGES = {
    **dict.fromkeys(("os.mkdir", "os.remove", "os.rmdir", "os.truncate", "os.chmod"), (0,)),
    **dict.fromkeys(("os.rename", "os.link", "os.symlink"), (0, 1)),
}
# Audit events by which the content of a file could be executed.
CODE = ("pickle.find_class", "os.system", "os.exec", "subprocess.Popen")
NO_FONT = "letters that no font here has"  # depends on the fonts of the machine
watched: list[Path] | None = None  # writable folders while the guard is active


class Trespass(BaseException):
    """Raised when the program tries to write to a forbidden place or to execute data."""


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
        # Opening a link writes to its target; other events replace or remove the link itself.
        real = target.resolve() if event == "open" else target.parent.resolve() / target.name
        if not any(real.is_relative_to(folder.resolve()) for folder in watched):
            raise Trespass(f"{event} {target}")


sys.addaudithook(_audit)


@contextlib.contextmanager
def watch(*allowed: Path) -> Iterator[None]:
    """Forbids writing outside of these folders, and execution of data.

    The folders themselves and their parents may be created.
    """
    global watched  # noqa: PLW0603 -- an audit hook cannot be removed
    watched = [folder.absolute() for folder in allowed]
    try:
        yield
    finally:
        watched = None


@contextlib.contextmanager
def workplace() -> Iterator[Path]:
    """Empty working folder, three levels inside a temporary folder, so `../../x` stays in it."""
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

    Checks the properties of all commands: the exit code is 0 or 2, an error has one or two lines
    and no other output, the output has no control characters, and files are written only in the
    allowed folders.

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
        assert [line for line in said[1].splitlines() if NO_FONT not in line] == []
    assert all(line.isprintable() for line in said[0].split("\n")), said[0]
    return code, *said


def check_message(message: str) -> None:
    """Checks that a message has one or two printable lines of limited length."""
    lines = message.split("\n")
    assert message
    assert len(lines) <= 2, message
    assert all(line.isprintable() for line in lines), message
    assert len(message) < 3000, len(message)


@contextlib.contextmanager
def no_training(known: Sequence[str]) -> Iterator[list[Path]]:
    """Replaces training by writing the files of the first run of each environment.

    Args:
        known: Gymnasium ids that are accepted without creating the environment, which is slow.

    Yields:
        Folders of the written runs.
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

    # Called once in advance, because they call git and import libraries.
    commit()
    factory._known_ids()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pool, "execute", execute)
        patch.setattr(forecast, "seconds_needed", lambda *_: None)  # it would train
        for module in (factory, selection, plan, forecast):
            patch.setattr(module, "space_sizes", space_sizes)
        yield written
