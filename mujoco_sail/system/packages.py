"""Packages that an extra of the project installs: what to do where one is missing."""

import sys
from collections.abc import Mapping
from importlib import import_module
from typing import Any

from mujoco_sail.system.errors import UserError

# Module -> package that has it, and the extra of pyproject.toml that installs the package.
EXTRAS: Mapping[str, tuple[str, str]] = {
    "av": ("av", "video"),
    "dm_control": ("dm_control", "dm_control"),
    "envpool": ("envpool", "fast"),
    "h5py": ("h5py", "preferences"),
    "jinja2": ("jinja2", "report"),
    "metaworld": ("metaworld", "metaworld"),
    "ray": ("ray", "cluster"),
    "sbx": ("sbx-rl", "peers"),
    "shimmy": ("shimmy", "dm_control"),
    "stable_baselines3": ("stable-baselines3", "sb3"),
    "tensorboard": ("tensorboard", "tensorboard"),
    "wandb": ("wandb", "wandb"),
}
# From Python 3.13 on dm_control is installed alone: it names labmaze, which has no wheel there and
# which the suite's tasks do not use. The extra installs the rest of what it names.
DM_CONTROL_ALONE = "pip install --no-deps dm_control==1.0.28"


def load(module: str, where: str, instead: str = "") -> Any:
    """Imports a module of an extra.

    Args:
        module: One of `EXTRAS`.
        where: What needs it: the beginning of the message.
        instead: What can be done without it: the end of the message.

    Raises:
        UserError: It cannot be imported; the message has the command that installs it.
    """
    try:
        return import_module(module)
    except (ImportError, OSError) as error:
        raise UserError(needs(module, where, error, instead)) from error


def needs(module: str, where: str, error: object, instead: str = "") -> str:
    """The line that says that a module is missing; see `load`.

    Args:
        module: One of `EXTRAS`.
        where: What needs it.
        error: Why it cannot be imported.
        instead: What can be done without it.
    """
    package, extra = EXTRAS[module]
    command = f"pip install 'mujoco-sail[{extra}]'"
    if module == "dm_control" and sys.version_info >= (3, 13):
        command += f" && {DM_CONTROL_ALONE}"
    alternative = f", or {instead}" if instead else ""
    return f"{where} needs the package {package} ({error}); {command}{alternative}"


def missing(error: BaseException) -> str | None:
    """The module of an extra whose absence an error reports, if that is what it reports."""
    if not isinstance(error, ModuleNotFoundError) or error.name is None:
        return None
    module = error.name.partition(".")[0]
    return module if module in EXTRAS else None
