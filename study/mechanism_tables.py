"""Print the tables of the mechanism study in docs/study.md, from the files of mechanism.py.

python study/mechanism_tables.py results/mechanism
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from mujoco_sail.analysis import mechanism, stats
from mujoco_sail.analysis.mechanism import ALL, BASE, CELL, MEASURES, REFERENCE
from mujoco_sail.analysis.tables_text import NONE, Cells, interval, number, render

COSINE = ("cosine", "low", "high")
DIFFERENCE = ("difference", "difference_low", "difference_high")
DIGITS = {"log_p": 3, "return": 1, "accuracy": 3}


def cosines(near: pd.DataFrame) -> Cells:
    """One row per estimate: its cosine in each session and over all sessions."""
    sessions = near["session"].unique()
    heads = [f"session {session}" for session in sessions]
    against = f"all: minus that of {' '.join(map(str, BASE))}"
    cells = [["environment", *CELL, *heads, against, "above in"]]
    for place, at in _by_estimate(near):
        texts = [interval(*(at[session][name] for name in COSINE), 2) for session in sessions]
        difference = interval(*(at[ALL][name] for name in DIFFERENCE), 2)
        itself = place[1:] == [str(part) for part in BASE]
        beyond = [difference, f"{at[ALL]['above']:.1%}"]
        cells.append([*place, *texts, *([NONE, NONE] if itself else beyond)])
    return cells


def sizes(near: pd.DataFrame) -> Cells:
    """One row per estimate: its relative error and its norm in each session."""
    sessions = near["session"].unique()
    heads = [f"{name}, session {session}" for name in ("error", "norm") for session in sessions]
    cells = [["environment", *CELL, *heads]]
    for place, at in _by_estimate(near):
        errors = [number(at[session]["error"], 2) for session in sessions]
        cells.append([*place, *errors, *(number(at[s]["norm"], 3) for s in sessions)])
    return cells


def refits(differences: pd.DataFrame) -> Cells:
    """One row per session and weight of T2."""
    cells = [["environment", "session", "T2", "share", "signal", "seeds", *MEASURES]]
    for row in differences.to_dict("records"):
        unit = "exact" if row["unit"] == "exact" else f"{row['lambda']:g}"
        cells.append(
            [
                row["env"],
                str(row["session"]),
                unit if row["lambda"] else "0, noise",
                number(row["share"], 2),
                number(row["signal"], 2),
                str(row["seeds"]),
                *(
                    interval(row[name], row[f"{name}_low"], row[f"{name}_high"], DIGITS[name])
                    for name in MEASURES
                ),
            ]
        )
    return cells


def notes(near: pd.DataFrame) -> Iterator[str]:
    """Lines with T2's norm per session, and with the choice of the declared rule."""
    for row in near[near["estimate"] == REFERENCE].to_dict("records"):
        size = interval(*(row[f"signal{end}"] for end in ("", "_low", "_high")), 5)
        yield (
            f"{row['env']}, session {row['session']}: |T2| is {size} of |T1|; |T2|^2 is not "
            f"positive in {row['undefined']} of {stats.RESAMPLES} resamples."
        )
    for row in mechanism.choice(near).to_dict("records"):
        yield f"{row['env']}: the rule picks {row['estimate']}, window {row['window']}."


def _by_estimate(near: pd.DataFrame) -> Iterator[tuple[list[str], dict[object, pd.Series]]]:
    """Environment and estimate as texts, and their rows by session."""
    for place, rows in near.groupby(["env", *CELL], sort=False):
        texts = [str(part) for part in place]
        if REFERENCE in texts:
            texts[2:] = [NONE, NONE]
        yield texts, {row["session"]: row for _, row in rows.iterrows()}


def main() -> None:
    """Prints all tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    near = mechanism.nearness(mechanism.read(folder, "gradients"))
    differences = mechanism.differences(mechanism.read(folder, "refits"))
    tables = [render(near, cells, 3, "md") for cells in (cosines, sizes)]
    tables += ["\n".join(notes(near)), render(differences, refits, 3, "md")]
    print("\n\n".join(tables))


if __name__ == "__main__":
    main()
