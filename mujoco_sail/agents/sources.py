"""Source files of an agent class, their digest, and that of other files of the user."""

import ast
import hashlib
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from functools import cache
from importlib import metadata
from importlib.util import resolve_name
from itertools import accumulate
from pathlib import Path
from typing import NamedTuple

SUITE = "mujoco_sail"


class Source(NamedTuple):
    """Source of a module: its dotted name, its file and its text."""

    name: str
    file: Path
    text: bytes


def digest(agent: type, settings: type, plugin: Iterable[Source]) -> str | None:
    """Digest of the source of an agent class that is not part of the suite.

    It covers the plug-in. For an installed package, it covers the modules that define the class,
    its bases and its settings, and the modules of the same package that these import.

    Args:
        agent: Agent class.
        settings: Class of its settings.
        plugin: Modules of the plug-in, if any.

    Returns:
        `sha256:...`, or None if all modules belong to the suite or its dependencies.
    """
    sources = set(plugin)
    covered = libraries().union(top(source.name) for source in sources)
    for name in {cls.__module__ for cls in (*agent.__mro__, *settings.__mro__)}:
        if top(name) not in covered:
            sources.update(_installed(name))
    return combined((s.name, hashlib.sha256(s.text).hexdigest()) for s in sources)


def combined(digests: Iterable[tuple[str, str]]) -> str | None:
    """Digest of named digests in any order; None without any."""
    lines = sorted(f"{name} {digest}\n" for name, digest in digests)
    return f"sha256:{hashlib.sha256(''.join(lines).encode()).hexdigest()}" if lines else None


def of_files(files: Iterable[Path]) -> str | None:
    """Digest of files by their names; None without any. A file is read again if it was changed."""
    return combined((file.name, _of_file(file, file.stat().st_mtime_ns)) for file in files)


@cache
def _of_file(file: Path, time: int) -> str:
    """Digest of a file that was last changed at a time in ns."""
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


@cache
def libraries() -> frozenset[str]:
    """Top-level names of the standard library, the suite and its dependencies."""
    needs: Iterable[str] = ()
    with suppress(metadata.PackageNotFoundError):  # a checkout that is not installed
        needs = metadata.requires(SUITE) or ()
    names = {re.split(r"[^\w-]", need)[0].replace("-", "_") for need in needs}
    return sys.stdlib_module_names | names | {SUITE}


@cache
def _installed(name: str) -> tuple[Source, ...]:
    """Sources of an imported module and of the modules that it imports from its package."""
    where = getattr(sys.modules.get(name), "__file__", None)
    if where is None:
        return ()
    file = Path(where)
    folder = file.parents[name.count(".") + (file.name == "__init__.py")]
    own = read(folder, name, lambda other: other == top(name))
    return own or (Source(name, file, file.read_bytes()),)


def read(folder: Path, name: str, follows: Callable[[str], bool]) -> tuple[Source, ...]:
    """Reads a module and all modules of the folder that it imports, also inside functions.

    Args:
        folder: Folder in which import statements are resolved.
        name: Dotted name of the module.
        follows: Predicate for the top-level names to search in the folder.
    """
    found: dict[str, Source] = {}
    wanted = [name]
    while wanted:
        for part in accumulate(wanted.pop().split("."), "{}.{}".format):  # packages first
            if part not in found and follows(top(part)) and (file := _file(folder, part)):
                found[part] = Source(part, file, file.read_bytes())
                wanted += _imported(found[part])
    return tuple(found[name] for name in sorted(found))


def _file(folder: Path, name: str) -> Path | None:
    place = folder.joinpath(*name.split("."))
    # A package before a module, as in Python.
    files = (place / "__init__.py", place.with_name(f"{place.name}.py"))
    # Path.is_file would raise an exception if a name is too long.
    return next((file for file in files if os.path.isfile(file)), None)


def _imported(source: Source) -> Iterator[str]:
    """Dotted names that the import statements of a module may refer to."""
    is_package = source.file.name == "__init__.py"
    package = source.name if is_package else source.name.rpartition(".")[0]
    with suppress(SyntaxError, ValueError, RecursionError):  # the import reports the error
        for node in ast.walk(ast.parse(source.text)):
            if isinstance(node, ast.Import):
                yield from (alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                with suppress(ImportError):  # above the top-level package
                    start = resolve_name("." * node.level + (node.module or ""), package)
                    yield from (f"{start}.{alias.name}" for alias in node.names)


def top(name: str) -> str:
    """Top-level name of a dotted name."""
    return name.partition(".")[0]
