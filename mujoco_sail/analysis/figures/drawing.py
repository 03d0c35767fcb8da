"""Draw figures from recipes and a results folder.

The key `kind` of a recipe selects the type of figure: see the modules `curves`, `profiles`,
`forest`, `doses`, `controls` and `estimators`.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from mujoco_sail.analysis.choice import MissingDataError, NotApplicableError
from mujoco_sail.analysis.figures import controls, curves, doses, estimators, forest, profiles
from mujoco_sail.analysis.figures.style import FaultyTextError, images
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
# Functions that draw recipes: from the runs of a folder, or from a folder with other contents.
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
        results: Results folder.
        out: Folder to write to.
        say: Called with a line about incomplete runs, about each omitted figure, and about
            letters that no font has.

    Returns:
        The files, a png and an svg per figure.

    Raises:
        NoRunsError: No runs, and no figure that does without them.
        UserError: There is no such figure, its recipe is invalid, the results cannot be pooled, or
            there are no data for a named figure or for any.
        WriteError: The folder cannot be written.
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
            rendered = render(recipe, runs, results, path, say=say)
        except MissingDataError as error:
            if names:
                raise
            missing += [] if isinstance(error, NotApplicableError) else [error]
            continue
        for suffix, image in rendered.items():
            file = out / f"{path.stem}.{suffix}"
            write_bytes(file, image)
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
        Each recipe with its file, in order.

    Raises:
        UserError: There is no such recipe, or it is invalid.
    """
    recipes = []
    for name in names or recipe_names("plots"):
        path, table = read_recipe("plots", name)
        recipes.append((path, _build(table, str(path))))
    return recipes


def against(recipe: Recipe, baseline: str, margin: float) -> Recipe:
    """Replaces the baseline and the margin of a recipe, if it has them.

    The baseline of doses remains, since they are relative to the agent without T2.
    """
    if isinstance(recipe, curves.CurvesRecipe | forest.ForestRecipe):
        return replace(recipe, baseline=baseline)
    if isinstance(recipe, doses.DosesRecipe):
        return replace(recipe, margin=margin)
    return recipe


def render(
    recipe: Recipe,
    runs: Sequence[RunRecord],
    results: Path,
    path: Path,
    formats: Sequence[str] = ("png", "svg"),
    say: Callable[[str], None] = lambda _: None,
) -> dict[str, bytes]:
    """Renders one figure.

    Args:
        recipe: The recipe.
        runs: Poolable runs.
        results: Folder of the runs and of other files that figures can show.
        path: File of the recipe, for messages.
        formats: "png", "svg" or both.
        say: Called with a line about letters that no font has.

    Returns:
        The bytes of each format.

    Raises:
        MissingDataError: The results have no data for the recipe.
        UserError: Matplotlib cannot draw a text.
    """
    try:
        return images(
            lambda: draw(recipe, runs, results, str(path)),
            formats,
            lambda line: say(f"{path}: {line}"),
        )
    except FaultyTextError as error:
        raise UserError(f"{path}: cannot be drawn: {error}") from error


def draw(recipe: Recipe, runs: Sequence[RunRecord], results: Path, where: str) -> Figure:
    """Draws one figure.

    Args:
        recipe: The recipe.
        runs: Poolable runs; running ones are ignored.
        results: See `render`.
        where: File of the recipe, for messages.

    Raises:
        MissingDataError: The results have no data for the recipe.
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
