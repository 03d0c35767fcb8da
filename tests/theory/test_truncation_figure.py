from __future__ import annotations

import pandas as pd
import pytest
import torch
from matplotlib.figure import Figure

from mujoco_sail.theory import experiment, summary, truncation_figure
from mujoco_sail.theory.experiment import DECISIONS, Tables
from mujoco_sail.theory.picking import PICKED


@pytest.fixture(scope="module")
def tables() -> Tables:
    torch.set_num_threads(1)  # as for each test, but this fixture comes first
    return experiment.measure_decisions([0, 1])


@pytest.fixture(scope="module")
def figure(tables: Tables) -> Figure:
    return truncation_figure.draw(tables["truncation"], tables["picking"])


def test_every_seed_has_its_own_problems(tables: Tables) -> None:
    for table in tables.values():
        assert set(table["seed"]) == set(range(2 * DECISIONS))


def test_results_of_a_seed_do_not_depend_on_the_other_seeds(tables: Tables) -> None:
    alone = experiment.measure_decisions([1])
    for name, table in tables.items():
        among = table[table["seed"] >= DECISIONS].reset_index(drop=True)
        pd.testing.assert_frame_equal(alone[name], among, rtol=1e-9, atol=1e-12)


def test_the_figure_is_the_same_twice(tables: Tables) -> None:
    first, second = (
        truncation_figure.render(tables["truncation"], tables["picking"]) for _ in range(2)
    )
    assert first == second
    assert first["png"].startswith(b"\x89PNG")
    assert first["svg"].startswith(b"<?xml")


def test_the_curves_are_the_means_of_the_tables(tables: Tables, figure: Figure) -> None:
    horizon, *_, shares, labels = figure.axes
    table = tables["truncation"]
    usual = table[(table["temperature"] == 1) & (table["randomness"] == 0.3)]
    one_step = usual[(usual["agreement"] == 0) & (usual["estimate"] == "one step")]
    drawn = horizon.lines[summary.ESTIMATES.index("one step")].get_ydata()
    assert list(drawn)[1:] == pytest.approx(one_step.groupby("horizon")["error"].mean()[1:])
    picking = tables["picking"][tables["picking"]["agreement"] == 0]
    rule = picking[(picking["rule"] == "disagreement") & (picking["session"] == PICKED)]
    line = list(truncation_figure.SESSIONS).index("disagreement")
    drawn = shares.lines[line].get_ydata()
    assert list(drawn) == pytest.approx(rule.groupby("share")["error"].mean()[::-1])
    few = rule[rule["share"] == 0.1]
    expected = [
        ((few["error"] ** 2 + few["noise"] ** 2 / n) ** 0.5).mean()
        for n in truncation_figure.LABELS
    ]
    assert list(labels.lines[line].get_ydata()) == pytest.approx(expected)


def test_the_printed_tables_hold_the_means(tables: Tables) -> None:
    head, *rows = summary.truncation_rows(tables["truncation"])
    assert len(head) == len(summary.PRINTED) + 1
    table = tables["truncation"]
    usual = summary.at(table, summary.USUALLY)
    for name, cell, *_ in rows:
        part = usual[usual["estimate"] == name]
        assert cell.startswith(f"{part['error'].mean():.2f} [")
        assert cell.endswith(f"{part['cosine'].mean():.2f}")
    _, *rows = summary.picking_rows(tables["picking"])
    assert len(rows) == 9
    (exact,) = (row for row in rows if row[0] == f"uniform, {PICKED}")
    assert exact[1:4] == ["0.00 [0.00, 0.00]", "1.00", "1.00"]
