"""Selection of the agents and environments that a figure shows."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from mujoco_sail.recipes.settings import nearest
from mujoco_sail.system.errors import UserError

ALL = "all"


class MissingDataError(UserError):
    """Error when results have no data for a figure recipe."""


class NotApplicableError(MissingDataError):
    """Error when a figure is for another kind of results; reported only if the user named it."""


@contextmanager
def missing_where_refused(where: str) -> Iterator[None]:
    """Turns an error of runs that cannot be put together into one of missing data.

    Args:
        where: File of the recipe, for the message.

    Raises:
        MissingDataError: The environments cannot be pooled, or scores cannot be normalised.
    """
    try:
        yield
    except UserError as error:
        raise MissingDataError(f"{where}: {error.args[0]}", *error.args[1:]) from error


def names_of(text: str) -> list[str]:
    """Splits a list of names joined by commas."""
    return [name.strip() for name in text.split(",")]


def choose(names: str, there: Sequence[str], where: str) -> list[str]:
    """Selects names by a comma-separated list, or all.

    Args:
        names: List of names in the recipe, or "all".
        there: Names in the results, in order.
        where: File and key of the recipe, for messages.

    Raises:
        MissingDataError: A name is not in the results.
        UserError: A name is given twice.
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
