"""Figure and tables of the study's mechanism."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from helpers.checkout import ROOT
from helpers.command_line import fails
from helpers.mechanism import write_mechanism

from mujoco_sail.analysis import mechanism
from mujoco_sail.analysis.figures import drawing
from mujoco_sail.cli import main
from mujoco_sail.results.pooling import NoRunsError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "mechanism"
    path.mkdir()
    write_mechanism(path)
    return path


def panels(folder: Path) -> dict[str, mpl.axes.Axes]:
    ((path, recipe),) = drawing.load(["estimators"])
    figure = drawing.draw(recipe, [], folder, path.name)
    return {axes.get_title("left"): axes for part in figure.subfigs for axes in part.axes}


def points(axes: mpl.axes.Axes, name: str) -> np.ndarray:
    (line,) = [line for line in axes.lines if line.get_label() == name]
    return np.asarray(line.get_ydata())


def test_every_estimate_has_a_panel_with_its_cosines_over_the_sessions(folder: Path) -> None:
    near = mechanism.nearness(mechanism.read(folder, "gradients"))
    near = near[near["session"] == "all"].set_index(["estimate", "window"])
    drawn = panels(folder)
    for estimate in ("labels", "corrected", "model"):
        for window in ("1", "5", "20"):
            expected = near.loc[(estimate, window), "cosine"]
            np.testing.assert_array_equal(points(drawn[estimate], window), expected)
    expected = near.loc["sessions", "cosine"]
    np.testing.assert_array_equal(points(drawn["sessions"], "sessions"), expected)
    ticks = [text.get_text() for text in drawn["labels"].get_xticklabels()]
    assert ticks == ["10", "50", "250"]
    reference = near.loc[("reference", "0"), "cosine"].item()
    assert all(axes.lines[-1].get_ydata()[0] == reference for axes in list(drawn.values())[:4])


def test_every_measure_has_a_panel_with_its_differences_by_share(folder: Path) -> None:
    fits = mechanism.differences(mechanism.read(folder, "refits"))
    drawn = panels(folder)
    titles = {
        "log P of its pairs": "log_p",
        "return": "return",
        "accuracy on its pairs": "accuracy",
    }
    for title, measure in titles.items():
        axes = drawn[title]
        for session, name in ((12, "session 12"), ("all", "mean over sessions")):
            rows = fits[fits["session"] == session]
            np.testing.assert_array_equal(points(axes, name), rows[measure])
        ticks = [text.get_text() for text in axes.get_xticklabels()]
        assert ticks[:3] == ["0", "0.03", "1"]
        assert ticks[3].startswith("exact\n(3")
        assert not axes.texts
        of_all = axes.collections[0].get_segments()
        ends = fits.loc[fits["session"] == "all", [f"{measure}_low", f"{measure}_high"]]
        np.testing.assert_array_equal([[y for _, y in end] for end in of_all], ends)


@pytest.mark.parametrize(
    ("size", "text", "marker"), [(1e4, "1e+04", "^"), (-50, "\N{MINUS SIGN}50", "v")]
)
def test_an_exact_weight_far_beyond_the_shares_is_an_arrow_with_its_mean(
    folder: Path, size: float, text: str, marker: str
) -> None:
    for path in folder.glob("refits_*"):
        table = pd.read_csv(path)
        without = table.loc[table["lambda"] == 0, "log_p"].mean()
        table["log_p"] = table["log_p"].mask(table["unit"] == "exact", without + size)
        table["log_p"] = table["log_p"].mask(table["lambda"] == 0, without)
        table.to_csv(path, index=False)
    axes = panels(folder)["log P of its pairs"]
    assert [found.get_text() for found in axes.texts] == [text]
    assert [line.get_xdata()[0] for line in axes.lines if line.get_marker() == marker][-1] == 3
    low, high = axes.get_ylim()
    assert -1 < low < high < 1


def test_the_figure_is_drawn_of_a_folder_without_runs(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ("--results", str(folder), "--out", str(tmp_path / "out"))
    assert main(["plot", "estimators", *options]) == 0
    assert (tmp_path / "out/estimators.png").is_file()
    capsys.readouterr()
    for path in folder.glob("refits_*"):
        path.unlink()
    assert "no refits_*.csv" in fails(capsys, "plot", "estimators", *options)


def test_the_tables_have_a_row_of_each_estimate_and_of_each_refit(folder: Path) -> None:
    command = [sys.executable, ROOT / "study/mechanism_tables.py", folder]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    cosines, sizes, notes, fits = (part.splitlines() for part in printed.split("\n\n"))
    assert len(cosines) == len(sizes) == 2 + 1 + 3 * (3 + 3 + 1) + 3
    assert len(notes) == 4 + 1
    assert len(fits) == 2 + 4 * 4
    near = mechanism.nearness(mechanism.read(folder, "gradients"))
    row = near[(near["session"] == 25) & (near["estimate"] == "model")].iloc[0]
    text = f"{row['cosine']:.2f} [{row['low']:.2f}, {row['high']:.2f}]"
    assert [text in line for line in cosines if "| model " in line and "| 1 " in line] == [True]


def test_a_folder_without_runs_has_the_figures_that_need_none(folder: Path, tmp_path: Path) -> None:
    files = drawing.plot([], folder, tmp_path / "out", print)
    assert [file.name for file in files] == ["estimators.png", "estimators.svg"]
    with pytest.raises(NoRunsError, match="no results here"):
        drawing.plot(["learning_curves"], folder, tmp_path / "out", print)
    (tmp_path / "empty").mkdir()
    with pytest.raises(NoRunsError, match="no results here"):
        drawing.plot([], tmp_path / "empty", tmp_path / "out", print)
