"""Import of optional packages, with an installation hint if one is missing."""

import sys
from collections.abc import Mapping
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from mujoco_sail.system.errors import UserError

# Module -> its package, and the extra of pyproject.toml that installs it.
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
    "starlette": ("starlette", "human"),
    "tensorboard": ("tensorboard", "tensorboard"),
    "transformers": ("transformers", "language"),
    "uvicorn": ("uvicorn", "human"),
    "wandb": ("wandb", "wandb"),
}
# From Python 3.13 on the extra installs only the dependencies of dm_control, see pyproject.toml.
DM_CONTROL_ALONE = "pip install --no-deps dm_control==1.0.28"


def installed(module: str) -> bool:
    """Whether a package is installed.

    A folder of the same name, such as `wandb/` in the working folder, does not count, although
    Python can import it as a namespace package.
    """
    try:
        spec = find_spec(module)
    except ValueError:  # already imported, without a spec
        return True
    return spec is not None and spec.origin is not None


def load(module: str, where: str, instead: str = "") -> Any:
    """Imports a module of an extra.

    Args:
        module: Module in `EXTRAS`.
        where: What needs the module; begins the message.
        instead: Alternative without the module; ends the message.

    Raises:
        UserError: The module cannot be imported; the message has the installation command.
    """
    try:
        if not installed(module):
            raise ModuleNotFoundError(f"No module named '{module}'")
        return import_module(module)
    except (ImportError, OSError) as error:
        raise UserError(needs(module, where, error, instead)) from error


def needs(module: str, where: str, error: object, instead: str = "") -> str:
    """Message of `load` if a module is missing.

    Args:
        module: Module in `EXTRAS`.
        where: What needs the module.
        error: Error of the import.
        instead: Alternative without the module.
    """
    package, extra = EXTRAS[module]
    command = f"pip install 'mujoco-sail[{extra}]'"
    if module == "dm_control" and sys.version_info >= (3, 13):
        command += f" && {DM_CONTROL_ALONE}"
    alternative = f", or {instead}" if instead else ""
    return f"{where} needs the package {package} ({error}); {command}{alternative}"


def missing(error: BaseException) -> str | None:
    """Module in `EXTRAS` that an error reports as not installed; None for other errors."""
    if not isinstance(error, ModuleNotFoundError) or error.name is None:
        return None
    module = error.name.partition(".")[0]
    return module if module in EXTRAS else None
