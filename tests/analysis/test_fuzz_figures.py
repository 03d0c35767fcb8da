"""Fuzzing of results and figure recipes: each is drawn, or gives an error of one or two lines.

`helpers.fuzzing` sets the number of cases.
"""

from __future__ import annotations

import contextlib

import pytest
from helpers.damage import damages, spoil, whole, write
from helpers.fuzz_values import HUGE, documents, mostly, words
from helpers.fuzzing import ask, cases, workplace
from hypothesis import given
from hypothesis import strategies as st
from matplotlib import font_manager

from mujoco_sail.recipes.load import read_recipe, recipe_names

pytestmark = pytest.mark.usefixtures("coarse")
font_manager.findSystemFonts()  # Matplotlib asks fontconfig once, before the guard is active


@cases("figures")
@given(files=damages)
def test_damaged_results_are_drawn_or_give_a_user_error(files: dict[str, bytes | None]) -> None:
    with workplace() as here:
        spoil(here / "results", files)
        code, out, _ = ask("plot", "--out=drawn", allowed=[here / "drawn"])
        assert (len(out.splitlines()) == 0) == (code != 0)


@cases("reports")
@given(files=damages)
def test_damaged_results_are_reported_or_give_a_user_error(files: dict[str, bytes | None]) -> None:
    with workplace() as here:
        spoil(here / "results", files)
        code, out, _ = ask("report", "--baseline=sac", allowed=[here])
        assert out.splitlines() == ([] if code else ["report.html"])
        assert (here / "report.html").exists() == (code == 0)


FIGURE = read_recipe("plots", "learning_curves")[1]
FIGURES = [
    FIGURE,
    *(FIGURE | {"title": text} for text in (r"$\alpha$", r"$\frac$", "$", "漢字", "", "x" * 3000)),
    *(FIGURE | {"agents": names} for names in ("sac", "sac,sac", "pebble, sac", "none", ",")),
    *(FIGURE | {"environments": names} for names in ("hopper", "hopper," * 99 + "hopper", "")),
    *(FIGURE | {"columns": number} for number in HUGE),
    *(FIGURE | {"metric": name} for name in ("success_rate", "held_out_accuracy")),
    FIGURE | {"x": "labels", "centre": "median"},
    *(read_recipe("plots", name)[1] for name in recipe_names("plots")),
]


@cases("figure recipes")
@given(
    data=documents(FIGURES),
    name=mostly(st.sampled_from(["mine", "nested/mine"]), words),
)
def test_a_figure_recipe_is_drawn_or_gives_a_user_error(data: bytes, name: str) -> None:
    with workplace() as here:
        write(here / "results", whole())
        (here / "nested").mkdir()
        with contextlib.suppress(OSError, ValueError):  # the name is not valid for a file
            (here / f"{name}.toml").write_bytes(data)
        ask("plot", f"--out={here / 'drawn'}", "--", f"{name}.toml", allowed=[here / "drawn"])
