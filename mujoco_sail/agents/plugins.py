"""Plug-ins: agent classes in modules next to their recipes.

A plug-in is read once, when a command starts. Its modules are imported by their names, like modules
next to a script. `sys.path` is not changed, so other files of the folder cannot hide a library.
"""

import os
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, SourceFileLoader
from importlib.util import spec_from_file_location
from pathlib import Path
from types import CodeType
from typing import Any

from mujoco_sail.agents.sources import SUITE, Source, libraries, read, top
from mujoco_sail.system.errors import UserError

_known: dict[str, Source] = {}  # plug-in modules that `import` finds in this process, by name


class _Finder(MetaPathFinder):
    def find_spec(self, fullname: str, path: Any, target: Any = None) -> ModuleSpec | None:
        if fullname in _known:
            file = str(_known[fullname].file)
            return spec_from_file_location(fullname, file, loader=_Loader(fullname, file))
        if any(name.startswith(f"{fullname}.") for name in _known):
            return ModuleSpec(fullname, None, is_package=True)  # a folder without __init__.py
        return None


class _Loader(SourceFileLoader):
    def get_code(self, fullname: str) -> CodeType:
        # The text that was read: the file may have changed, and its bytecode may be outdated.
        return self.source_to_code(_known[fullname].text, self.path)


sys.meta_path.insert(0, _Finder())


@dataclass(frozen=True)
class Plugin:
    """Plug-in: a module next to a recipe, and the modules next to it that it imports.

    A pickled plug-in contains the source texts, so that another process can import its modules.

    Raises:
        UserError: A module has the name of a library or of another imported module.
    """

    sources: tuple[Source, ...]

    def __post_init__(self) -> None:
        """Makes the modules importable in this process."""
        for name, file, _ in self.sources:
            other = None if name in _known else sys.modules.get(name)
            where = os.path.realpath(getattr(other, "__file__", None) or "")
            if top(name) in libraries() or (other and where != os.path.realpath(file)):
                raise UserError(
                    f"{file}: '{name}' is already the name of {other or 'a library'}; rename it"
                )
        # Modules of another folder, or from before an edit, must be imported again.
        if any(s.name in sys.modules and _known.get(s.name) != s for s in self.sources):
            own = {top(source.name) for source in self.sources}
            for name in [name for name in sys.modules if top(name) in own]:
                del sys.modules[name]
        _known.update((source.name, source) for source in self.sources)

    def __reduce__(self) -> tuple[Any, ...]:
        """Unpickles by a call of the constructor, which makes the modules importable."""
        return Plugin, (self.sources,)


def beside(folder: Path, name: str) -> Plugin | None:
    """Reads the plug-in of a recipe.

    Args:
        folder: Folder of the recipe.
        name: Dotted name of the module that defines the class.

    Returns:
        The plug-in, or None if the folder has no such module, so that the module is the suite's or
        an installed one.

    Raises:
        UserError: The name of a module is already in use.
    """
    if top(name) == SUITE or not all(part.isidentifier() for part in name.split(".")):
        return None
    others = libraries() - {top(name)}
    sources = read(folder.resolve(), name, lambda imported: imported not in others)
    if any(source.name == name for source in sources):
        return Plugin(sources)
    if name in _known:
        raise UserError(f"'{name}' is already the name of {_known[name].file}")
    return None


def check_names(plugins: Iterable[Plugin | None]) -> None:
    """Checks that the modules of all plug-ins of a command have different names.

    Raises:
        UserError: Two folders have modules of the same name.
    """
    files: dict[str, Path] = {}
    for name, file, _ in (source for plugin in plugins if plugin for source in plugin.sources):
        if files.setdefault(name, file) != file:
            raise UserError(f"--agents: {files[name]} and {file} have the same name; rename one")
