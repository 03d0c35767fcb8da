"""Figures from a results folder: recipes, and the files that they become.

A recipe's `kind` says what is drawn: see `curves`, `profiles`, `forest`, `doses`, `controls_figure`
and `estimators`.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from mujoco_sail.analysis.choice import MissingDataError, NotApplicableError
from mujoco_sail.analysis.figures import controls, curves, doses, estimators, forest, profiles
from mujoco_sail.analysis.figures.style import images
from mujoco_sail.analysis.tables import incomplete
from mujoco_sail.recipes.load import read_recipe, recipe_names
from mujoco_sail.recipes.settings import build, nearest
from mujoco_sail.results.pooling import NoRunsError, collect
from mujoco_sail.results.read import RunRecord
from mujoco_sail.system.errors import UserError
from mujoco_sail.system.files import write_bytes

Recipe = (
    curves.CurvesRecipe
    | profiles.ProfileRecipe
    | forest.ForestRecipe
    | doses.DosesRecipe
    | controls.ControlsRecipe
    | controls.BudgetsRecipe
    | estimators.EstimatorsRecipe
)
KINDS: dict[str, type[Recipe]] = {
    "curves": curves.CurvesRecipe,
    "profile": profiles.ProfileRecipe,
    "forest": forest.ForestRecipe,
    "doses": doses.DosesRecipe,
    "controls": controls.ControlsRecipe,
    "budgets": controls.BudgetsRecipe,
    "estimators": estimators.EstimatorsRecipe,
}
# What draws a recipe: of a folder's runs, or of a folder with other files or several results.
OF_RUNS: dict[type[Recipe], Callable[[Any, Sequence[RunRecord], str], Figure]] = {
    curves.CurvesRecipe: curves.draw,
    profiles.ProfileRecipe: profiles.draw,
    forest.ForestRecipe: forest.draw,
    doses.DosesRecipe: doses.draw,
}
OF_FOLDER: dict[type[Recipe], Callable[[Any, Path, str], Figure]] = {
    controls.ControlsRecipe: controls.draw_controls,
    controls.BudgetsRecipe: controls.draw_budgets,
    estimators.EstimatorsRecipe: estimators.draw,
}


def plot(names: Sequence[str], results: Path, out: Path, say: Callable[[str], None]) -> list[Path]:
    """Draws figures, for `mujoco-sail plot`.

    Args:
        names: Names or paths of figure recipes; if empty, all for which the results have data.
        results: Folder that is read.
        out: Folder that is written.
        say: Takes a line about runs that are not complete, and about each figure left out.

    Returns:
        The files, a png and an svg per figure.

    Raises:
        NoRunsError: No runs, and no figure that does without them.
        UserError: No such figure, a mistake in its recipe, results that cannot be pooled, a
            folder that cannot be written, or no data for a figure that was named or for any.
    """
    recipes = load(names)
    runs, no_runs = [], None
    if any(type(recipe) not in OF_FOLDER for _, recipe in recipes):
        try:
            runs = collect(results)
        except NoRunsError as error:
            if names:
                raise
            no_runs = error
            recipes = [(path, recipe) for path, recipe in recipes if type(recipe) in OF_FOLDER]
    for line in incomplete(runs):
        say(line)
    files, missing = [], []
    for path, recipe in recipes:
        try:
            rendered = render(recipe, runs, results, path)
        except MissingDataError as error:
            if names:
                raise
            missing += [] if isinstance(error, NotApplicableError) else [error]
            continue
        for suffix, image in rendered.items():
            file = out / f"{path.stem}.{suffix}"
            try:
                write_bytes(file, image)
            except OSError as error:
                raise UserError(f"{file}: cannot be written: {error.strerror}") from error
            files.append(file)
    if not files and (no_runs or missing):
        raise no_runs or missing[0]
    for reason in missing:
        say(f"left out: {' '.join(str(reason).splitlines())}")
    return files


def load(names: Sequence[str] = ()) -> list[tuple[Path, Recipe]]:
    """Reads figure recipes.

    Args:
        names: Names or paths; all that the suite ships if empty.

    Returns:
        Each recipe with its file, in their order.

    Raises:
        UserError: No such recipe, or a mistake in one.
    """
    recipes = []
    for name in names or recipe_names("plots"):
        path, table = read_recipe("plots", name)
        recipes.append((path, _build(table, str(path))))
    return recipes


def against(recipe: Recipe, baseline: str) -> Recipe:
    """The recipe with another baseline, where it has one."""
    if isinstance(recipe, curves.CurvesRecipe | forest.ForestRecipe):
        return replace(recipe, baseline=baseline)
    return recipe


def render(
    recipe: Recipe,
    runs: Sequence[RunRecord],
    results: Path,
    path: Path,
    formats: Sequence[str] = ("png", "svg"),
) -> dict[str, bytes]:
    """Draws one figure as files.

    Args:
        recipe: What to draw.
        runs: Poolable runs.
        results: Folder that they are in, and the other files that a figure may be of.
        path: The recipe's file, for messages.
        formats: "png", "svg" or both.

    Returns:
        The bytes of each format.

    Raises:
        MissingDataError: The runs lack what the recipe asks for.
        UserError: A text that Matplotlib cannot draw.
    """
    try:
        return images(lambda: draw(recipe, runs, results, str(path)), formats)
    except UserError:
        raise
    except ValueError as error:  # mathematics that Matplotlib does not read
        raise UserError(f"{path}: cannot be drawn: {error}") from error


def draw(recipe: Recipe, runs: Sequence[RunRecord], results: Path, where: str) -> Figure:
    """Draws one figure.

    Args:
        recipe: What to draw.
        runs: Poolable runs; running ones have no part.
        results: See `render`.
        where: The recipe's file, for messages.

    Raises:
        MissingDataError: The runs lack what the recipe asks for.
    """
    if type(recipe) in OF_FOLDER:
        return OF_FOLDER[type(recipe)](recipe, results, where)
    ended = [run for run in runs if run.status != "running"]
    return OF_RUNS[type(recipe)](recipe, ended, where)


def _build(table: dict[str, Any], where: str) -> Recipe:
    kind = table.get("kind")
    if kind is None:
        raise UserError(f"{where}: missing key 'kind'")
    if not isinstance(kind, str) or kind not in KINDS:
        raise UserError(f"{where}: key 'kind' is {kind!r}; {nearest(str(kind), KINDS)}")
    return build(KINDS[kind], table, where)
