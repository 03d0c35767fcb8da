"""Data set of all published runs: `python study/dataset.py results/dataset` writes it."""

import sys
import tomllib
from pathlib import Path

import pandas as pd

import mujoco_sail
from mujoco_sail.analysis import stats

RESULTS = Path(__file__).parent.parent / "results"
FOLDERS = (
    "study",
    "study_noisy",
    "study_mistake",
    "doses",
    "doses_fifth",
    "confirmation_choice/few",
    "confirmation_choice/many",
    "confirmation",
    "confirmation_control",
    "controls/labels_250",
    "controls/labels_1000",
    "controls/labels_100",
    "controls/labels_50",
    "controls/no_exploration",
    "controls/noisy",
    "controls/mistake",
    "rivals/labels_50",
    "sb3_parity",
    "precision/float32",
    "precision/bfloat16",
    "language",
    "demo",
)
VERSIONS = ("mujoco_sail", "python", "torch", "mujoco", "gymnasium", "envpool")
NAMES = ["env", "agent", "seed"]
SETTINGS = ["protocol", "teacher", "steps", "labels", "backend", "device", "precision"]
RUN = ["results", *NAMES, *SETTINGS, *VERSIONS]


def evaluations(folder: str) -> pd.DataFrame:
    """Evaluations of the complete runs in a folder of `results`, with the columns `RUN`.

    `labels` is the run's number of labels, `labels_used` the number until that step.
    """
    read = mujoco_sail.read_results(RESULTS / folder)
    runs = read.runs.query("status == 'complete'").assign(results=folder)
    recorded = [
        tomllib.loads((Path(run) / "run.toml").read_text("utf-8")) for run in runs["folder"]
    ]
    runs["backend"] = [each["env"]["backend"] for each in recorded]
    runs["precision"] = [each["precision"] for each in recorded]
    for name in VERSIONS:
        runs[name] = [each["versions"].get(name) for each in recorded]
    rows = read.evaluations.rename(columns={"labels": "labels_used"})
    return runs[RUN].merge(rows, on=NAMES)


def scores(rows: pd.DataFrame) -> pd.DataFrame:
    """Final return and area under the curve of every run, defined as in `mujoco-sail table`."""
    runs = rows.groupby(RUN, sort=False, dropna=False)[["step", "episode_return"]]
    final = runs.apply(lambda run: stats.final_return(run["episode_return"]))
    area = runs.apply(lambda run: stats.area_under_curve(run["step"], run["episode_return"]))
    return pd.DataFrame({"final_return": final, "area_under_curve": area}).reset_index()


if __name__ == "__main__":
    out = Path(sys.argv[1])
    out.mkdir(parents=True, exist_ok=True)
    rows = pd.concat([evaluations(folder) for folder in FOLDERS], ignore_index=True)
    rows.to_csv(out / "evaluations.csv", index=False)
    scores(rows).to_csv(out / "scores.csv", index=False)
