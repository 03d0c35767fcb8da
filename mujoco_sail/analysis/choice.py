"""Which agents and environments a figure shows."""

from collections.abc import Sequence

from mujoco_sail.recipes.settings import nearest
from mujoco_sail.system.errors import UserError

ALL = "all"


class MissingDataError(UserError):
    """The results lack what a figure recipe asks for."""


class NotApplicableError(MissingDataError):
    """The figure is of results of another kind: nobody misses it who has not named it."""


def names_of(text: str) -> list[str]:
    """The names that a text joins by commas."""
    return [name.strip() for name in text.split(",")]


def choose(names: str, there: Sequence[str], where: str) -> list[str]:
    """The names of a comma-separated list, or all that are there.

    Args:
        names: What the recipe says.
        there: What the results have, in its order.
        where: File and key of the recipe, for messages.

    Raises:
        MissingDataError: A name that is not there.
        UserError: A name given twice.
    """
    if names == ALL:
        return list(there)
    chosen = names_of(names)
    for name in chosen:
        if name not in there:
            raise MissingDataError(f"{where}: nothing to draw of '{name}'; {nearest(name, there)}")
        if chosen.count(name) > 1:
            raise UserError(f"{where}: '{name}' is named twice")
    return chosen
