"""The short way to read a table gives what pandas gives, or leaves the file to pandas."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mujoco_sail.results import plain_table
from mujoco_sail.results.read import LARGEST, TRAINING, read_training


def lines_of(table: np.ndarray) -> str:
    cells = [["" if np.isnan(x) else f"{x:.9g}" for x in row] for row in table]
    return "".join(",".join(row) + "\n" for row in [["step", "labels", "loss"], *cells])


def test_numbers_are_those_that_pandas_reads_to_the_last_bit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    random = np.random.default_rng(0)
    table = random.normal(size=(500, 3)) * 10.0 ** random.integers(-20, 20, (500, 3))
    table[:, 0], table[::7, 2] = np.arange(500), np.nan
    path = tmp_path / "training.csv"
    path.write_text(lines_of(table))
    short = plain_table.numbers(path, TRAINING, None, LARGEST)
    monkeypatch.setattr(plain_table, "numbers", lambda *_: None)
    assert short is not None
    pd.testing.assert_frame_equal(short, read_training(path), check_exact=True)


@pytest.mark.parametrize(
    "text",
    [
        "step,labels\n1,0",  # cut off
        "step,labels\n",
        "step,labels\n1,0\n1,0\n",
        "step,labels\n1,0\n2\n",
        "step,labels\n1,0,3\n",
        "step,labels,labels\n1,0,0\n",
        "step\n1\n",
        "step,labels\n1,\n",
        "step,labels\n1,nan\n",
        "step,labels\n1,1e31\n",
        "step,labels\n1,e\n",
        'step,labels\n1,"0"\n',
        "step,labels\r\n1,0\r\n",
        "step,labels\n1, 0\n",
        "step,labels\n1,1_0\n",
        "step,größe,labels\n1,0,0\n",
    ],
)
def test_whatever_a_run_does_not_write_is_left_to_pandas(tmp_path: Path, text: str) -> None:
    path = tmp_path / "training.csv"
    assert plain_table.numbers(path, TRAINING, None, LARGEST) is None
    path.write_bytes(text.encode())
    assert plain_table.numbers(path, TRAINING, None, LARGEST) is None
    path.write_text("step,labels\n1,0\n")
    assert plain_table.numbers(path, TRAINING, None, LARGEST) is not None
