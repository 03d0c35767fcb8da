"""Agent classes from outside the suite: how they are loaded, and what they were made of.

A program that lies beside a recipe is read once, as a command begins, and loaded by place: its
modules have a name of their own, so that programs of equal names never meet and `sys.path` stays
as it is. The texts travel to the workers with the entry; all of them run what was read.
"""

import ast
import builtins
import hashlib
import importlib
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache, cached_property, partial
from importlib import metadata
from importlib.abc import ExecutionLoader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import decode_source, spec_from_loader
from pathlib import Path
from types import ModuleType
from typing import Any

SUITE = "mujoco_sail"


@dataclass(frozen=True)
class Source:
    """A module as it was read.

    Attributes:
        name: Its dotted name, seen from the folder that it was looked for in.
        file: Where it was read.
        text: What it said.
    """

    name: str
    file: Path
    text: bytes

    @property
    def is_package(self) -> bool:
        """Whether other modules lie in it."""
        return self.file.name == "__init__.py"


@dataclass(frozen=True)
class Program:
    """A module and those beside it that it imports, loaded by place.

    Attributes:
        folder: Where it lies.
        sources: Its modules, by name.
    """

    folder: Path
    sources: tuple[Source, ...]

    def __post_init__(self) -> None:
        """Makes the modules known to the import system."""
        _programs[self.root] = self

    def __reduce__(self) -> tuple[Any, ...]:
        """Unpickled, it is known to the import system of that process."""
        return Program, (self.folder, self.sources)

    @cached_property
    def root(self) -> str:
        """Name of the package, made up, that the modules are loaded in."""
        digest = hashlib.sha256(f"{os.fspath(self.folder)!r}{_digest(self.sources)}".encode())
        return f"{SUITE}_beside_{digest.hexdigest()[:16]}"

    @cached_property
    def own_names(self) -> frozenset[str]:
        """What the imports of its modules find here and nowhere else."""
        return frozenset(_top(source.name) for source in self.sources) - libraries()

    def load(self, name: str) -> ModuleType:
        """Loads one of its modules, once a process."""
        return importlib.import_module(f"{self.root}.{name}")

    def find(self, name: str) -> Source | None:
        """The module of a dotted name."""
        return next((source for source in self.sources if source.name == name), None)


_programs: dict[str, Program] = {}


class _Loader(ExecutionLoader):
    """Runs a module as it was read; no compiled file is trusted or left behind."""

    def __init__(self, program: Program, source: Source) -> None:
        self.program, self.source = program, source

    def is_package(self, fullname: str) -> bool:
        return self.source.is_package

    def get_filename(self, fullname: str) -> str:
        return str(self.source.file)

    def get_source(self, fullname: str) -> str:
        return decode_source(self.source.text)

    def exec_module(self, module: ModuleType) -> None:
        # Python looks up here what an import statement calls, also one in a function.
        by_place = {**vars(builtins), "__import__": partial(_import, self.program)}
        vars(module)["__builtins__"] = by_place
        super().exec_module(module)


class _Finder(MetaPathFinder):
    """Finds the modules of programs under the names that `Program.root` gives them."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        root, _, name = fullname.partition(".")
        program = _programs.get(root)
        if program is None:
            return None
        if (source := program.find(name)) is not None:
            return spec_from_loader(fullname, _Loader(program, source))
        if not name or any(source.name.startswith(f"{name}.") for source in program.sources):
            return ModuleSpec(fullname, None, is_package=True)  # a folder without __init__.py
        return None


sys.meta_path.insert(0, _Finder())


def _import(
    program: Program,
    name: str,
    globals: Mapping[str, object] | None = None,
    locals: Mapping[str, object] | None = None,
    fromlist: Sequence[str] | None = (),
    level: int = 0,
) -> ModuleType:
    """What `import` means in a program: its own modules first, see `builtins.__import__`."""
    if level or _top(name) not in program.own_names:
        return builtins.__import__(name, globals, locals, fromlist, level)
    module = builtins.__import__(f"{program.root}.{name}", globals, locals, fromlist, 0)
    return module if fromlist else sys.modules[f"{program.root}.{_top(name)}"]


@cache
def libraries() -> frozenset[str]:
    """Names that mean a library wherever they are imported: Python's, the suite and its needs."""
    needs: Iterable[str] = ()
    with suppress(metadata.PackageNotFoundError):  # a checkout that is not installed
        needs = metadata.requires(SUITE) or ()
    names = {re.split(r"[^\w-]", need)[0].replace("-", "_") for need in needs}
    return sys.stdlib_module_names | names | {SUITE}


def beside(folder: Path, name: str) -> Program | None:
    """Reads the program that a recipe names, if it lies beside the recipe.

    Args:
        folder: The recipe's.
        name: Dotted name of a module.

    Returns:
        The program; None if the folder has no such module, or the suite's is meant.
    """
    if _top(name) == SUITE or not all(part.isidentifier() for part in name.split(".")):
        return None
    sources = _closure(folder, name, lambda other: _top(other) not in libraries())
    return Program(folder, sources) if any(source.name == name for source in sources) else None


def digest(agent: type, settings: type, program: Program | None) -> str | None:
    """Digest of the source that a class from outside the suite is made of.

    It covers the program beside the recipe; of installed packages, the modules that define the
    class, its bases and its settings, and what these import of their own package.

    Args:
        agent: The class.
        settings: The class of its settings.
        program: The program that it was loaded from, None if it is installed.

    Returns:
        `sha256:...`, or None if all of it is the suite's or a library's that the suite needs.
    """
    sources = set(program.sources if program else ())
    for module in {cls.__module__ for cls in (*agent.__mro__, *settings.__mro__)}:
        if _top(module) not in libraries() and _top(module) not in _programs:
            sources.update(_installed(module))
    return _digest(sources) if sources else None


@cache
def _installed(name: str) -> tuple[Source, ...]:
    """An imported module and what it imports of its own package."""
    where = getattr(sys.modules.get(name), "__file__", None)
    if where is None:
        return ()
    file = Path(where)
    depth = name.count(".") + (file.name == "__init__.py")
    own = _closure(file.parents[depth], name, lambda other: _top(other) == _top(name))
    return own or (Source(name, file, file.read_bytes()),)


def _closure(folder: Path, name: str, follows: Callable[[str], bool]) -> tuple[Source, ...]:
    """A module of a folder, and all modules there that it needs.

    Args:
        folder: What names are seen from.
        name: The module.
        follows: Which of the names that it imports are looked for in the folder.
    """
    found: dict[str, Source] = {}
    wanted, seen = _with_parents(name), set()
    while wanted:
        name = wanted.pop()
        source = None if name in seen else _read(folder, name)
        seen.add(name)
        if source is not None:
            found[name] = source
            wanted += [
                part
                for other in _imported(source)
                for part in _with_parents(other)
                if follows(part)
            ]
    return tuple(found[name] for name in sorted(found))


def _read(folder: Path, name: str) -> Source | None:
    place = folder.joinpath(*name.split("."))
    # As Python does, a package before a module.
    for file in (place / "__init__.py", place.with_name(f"{place.name}.py")):
        if os.path.isfile(file):  # Path.is_file would raise where a name is too long
            return Source(name, file, file.read_bytes())
    return None


def _imported(source: Source) -> Iterator[str]:
    """Names that a module's import statements may mean, wherever in the module they stand."""
    try:
        tree = ast.parse(source.text)
    except (SyntaxError, ValueError, RecursionError):
        return  # whoever imports it is told
    package = source.name.split(".")
    if not source.is_package:
        package.pop()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            start = package[: max(len(package) + 1 - node.level, 0)] if node.level else []
            start += node.module.split(".") if node.module else []
            yield from (".".join([*start, alias.name]) for alias in node.names)


def _with_parents(name: str) -> list[str]:
    parts = name.split(".")
    return [".".join(parts[:end]) for end in range(1, len(parts) + 1)]


def _top(name: str) -> str:
    return name.partition(".")[0]


def _digest(sources: Iterable[Source]) -> str:
    lines = sorted(f"{s.name} {hashlib.sha256(s.text).hexdigest()}\n" for s in sources)
    return f"sha256:{hashlib.sha256(''.join(lines).encode()).hexdigest()}"
