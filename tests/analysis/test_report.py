"""Report: content, self-contained HTML and escaping of untrusted text."""

from __future__ import annotations

import os
import re
import subprocess
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from helpers.command_line import PROGRAM, fails, program
from helpers.results import OTHER_FIGURES, MakeFolder, write_run

from mujoco_sail.analysis import paired, report
from mujoco_sail.analysis.figures import drawing
from mujoco_sail.analysis.verdict import verdicts
from mujoco_sail.recipes.load import recipe_names
from mujoco_sail.results.pooling import collect

EMPTY = {"meta", "link", "br", "hr", "img", "input"}  # elements of HTML without an end


class Page(HTMLParser):
    """Parser of a page that also checks that its elements are balanced."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in EMPTY:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def all(self, name: str) -> list[str]:
        return [str(attributes[name]) for _, attributes in self.tags if name in attributes]


def page(results: Path, baseline: str = "pebble") -> Page:
    return Page(report.render(collect(results), results, baseline, 0.1))


@pytest.fixture
def study(make: MakeFolder) -> None:
    """Four agents on two environments, for all figures; two failed seeds, one interrupted."""
    curves: dict[str, Any] = {
        "training": {
            "step": (100, 200, 300),
            "held_out_accuracy": ("", 0.5, 0.75),
            "labels": (0, 2, 3),
        },
        "labels": (0, 2, 3),
        "success": 0.5,
    }
    silent: dict[str, Any] = {"answers": (), "success": 0.5}
    for env in ("door_open", "walker_walk"):
        for seed in range(3):
            make(env, "random", seed, (0, 0, seed / 10), **silent)
            make(env, "sac", seed, (0, 0, 9 + seed), **silent)
            make(env, "pebble", seed, (0, 0, 2 + seed), **curves)
            make(env, "sail", seed, (0, 0, 4 + seed), **curves, wall_seconds=3600.0 + seed)
    make("door_open", "sail", 3, status="failed", failure="loss is <script>alert(1)</script> nan")
    make("door_open", "pebble", 7, status="failed")
    make("walker_walk", "sail", 5, status="running")


# --- content -----------------------------------------------------------------------------------


@pytest.mark.usefixtures("study", "coarse")
def test_the_page_has_the_verdict_figures_and_unfinished_seeds(results: Path) -> None:
    shown = page(results)
    runs = collect(results)
    (said,) = verdicts(runs, paired.compare(runs, "pebble", 0.1), "pebble", 0.1)
    assert said in shown.text
    assert "Against pebble, seed by seed, over all environments" in shown.text
    expected = [name for name in recipe_names("plots") if name not in OTHER_FIGURES]
    assert [id for id in shown.all("id") if id in recipe_names("plots")] == expected
    assert "Not drawn" not in shown.text
    assert "door_open/sail/seed_3 failed: loss is <script>alert(1)</script> nan" in shown.text
    assert "door_open/pebble/seed_7 failed: no reason recorded" in shown.text
    assert "Incomplete, in no statistic: walker_walk/sail/seed_5" in shown.text
    assert "1 h 0 min" in shown.text  # wall time of a run
    assert "24 finished runs, 2 failed, 1 incomplete" in shown.text


@pytest.mark.usefixtures("three_arms", "coarse")
def test_without_random_runs_one_line_states_what_is_missing(
    results: Path,
) -> None:
    shown = page(results)
    assert "cannot be computed: walker_walk: no finished run of random" in shown.text
    drawn = {*shown.all("id")}.intersection(recipe_names("plots"))
    assert drawn == {"effect_sizes", "learning_curves", "paper_curves", "return_against_labels"}
    assert "Success rate: mean and 95 % interval: no finished run has" in shown.text
    assert "pooled" in shown.text
    assert "No seed failed." in shown.text


@pytest.mark.usefixtures("three_arms", "coarse")
def test_without_scores_the_effects_have_the_failed_seeds(results: Path, make: MakeFolder) -> None:
    make("walker_walk", "sail", 3, status="failed", failure="loss is nan")
    for place in ("walker_walk", "pooled"):
        assert f"{place} sail 3 (1 failed) 0.80" in page(results).text


@pytest.mark.usefixtures("coarse")
def test_a_page_without_any_finished_run_says_so(results: Path, make: MakeFolder) -> None:
    make("hopper", "sail", 0, status="failed", failure="nan")
    make("hopper", "sail", 1, status="running")
    shown = page(results)
    assert "0 finished runs, 1 failed, 1 incomplete" in shown.text
    assert "No agent has finished seeds beside the baseline pebble." in shown.text
    assert "SAIL cannot be compared with PEBBLE: no environment has finished runs" in shown.text


@pytest.mark.usefixtures("three_arms", "coarse")
def test_effects_are_against_the_requested_baseline(results: Path) -> None:
    assert "d vs sail" in page(results, "sail").text
    svg = report.render(collect(results), results, "sail", 0.1)
    assert "<!-- better than sail -->" in svg
    of_curves = [recipe for _, recipe in drawing.load([]) if recipe.kind == "curves"]
    assert {drawing.against(recipe, "sail", 0.1).baseline for recipe in of_curves} == {"sail"}


@pytest.mark.usefixtures("coarse")
def test_environments_that_cannot_be_pooled_keep_their_own_sections(
    results: Path, make: MakeFolder
) -> None:
    for env, protocol in (("walker_walk", "quick"), ("cheetah_run", "study")):
        for agent in ("pebble", "sail"):
            for seed in range(2):
                make(env, agent, seed, (0, 0, seed), **{"env.protocol": protocol})
    shown = page(results)
    assert "No verdict over all environments: " in shown.text
    assert "The environments cannot be put together: " in shown.text
    assert "'study' and 'quick'; such results are never pooled" in shown.text
    assert "cheetah_run sail study 2 3 0.50" in shown.text
    assert "cheetah_run sail 2 0.00" in shown.text
    assert "--across" not in shown.text
    drawn = {*shown.all("id")}.intersection(recipe_names("plots"))
    assert drawn == {"learning_curves", "paper_curves", "return_against_labels"}


@pytest.mark.usefixtures("coarse")
def test_a_term_that_stayed_below_one_percent_is_on_the_page(
    results: Path, make: MakeFolder
) -> None:
    shares = {
        ("walker_walk", "sail", 0): ("", 0.002, 0.004),
        ("walker_walk", "sail", 1): ("", 0.003, ""),
        ("walker_walk", "sail", 2): ("", "", ""),  # no fit with T2
        ("walker_walk", "sail", 3): ("", 0.002, 0.02),
        ("cheetah_run", "sail", 0): ("", 0.01, 0.002),
        ("walker_walk", "pebble_revkl", 0): ("", "", ""),
    }
    for (env, agent, seed), column in shares.items():
        training = {"step": (100, 200, 300), "t2_share": column, "labels": (0, 2, 4)}
        weight = 0.0 if agent == "pebble_revkl" else 1.0
        make(env, agent, seed, training=training, **{"agent.lambda": weight})
    # Made before the column was, cut off, and without the file.
    make("door_open", "sail", 0, training={"step": (100, 200, 300), "labels": (0, 2, 4)})
    make("door_open", "sail", 1, status="running", training={"step": (100,), "t2_share": (0.001,)})
    make("hopper", "sail", 0)
    said = re.findall(r"\w+ on \w+: T2 .*?lambda = 0", page(results).text)
    assert said == [
        "sail on walker_walk: T2 stayed below 1% of the reward's gradient in every fit of 3 runs "
        "(at most 0.40%), which hardly differ from lambda = 0"
    ]


# --- HTML --------------------------------------------------------------------------------------


@pytest.mark.usefixtures("study", "coarse")
def test_the_page_has_no_external_resources_and_no_scripts(results: Path) -> None:
    text = report.render(collect(results), results, "pebble", 0.1)
    shown = Page(text)
    tags = {tag for tag, _ in shown.tags}
    assert not tags & {"script", "link", "iframe", "object", "embed", "img", "image", "base"}
    assert shown.all("src") == []
    assert all(link.startswith("#") for link in shown.all("href") + shown.all("xlink:href"))
    assert all(link.startswith("#") for link in re.findall(r"url\(([^)]*)\)", text))
    assert "@import" not in text
    found = [pair for _, attributes in shown.tags for pair in attributes.items()]
    assert {name for name, value in found if "://" in str(value)} <= {"xmlns", "xmlns:xlink"}
    assert not [name for _, attributes in shown.tags for name in attributes if name[:2] == "on"]
    assert "default-src 'none'" in text


@pytest.mark.usefixtures("study", "coarse")
def test_ids_are_unique_and_references_resolve(results: Path) -> None:
    text = report.render(collect(results), results, "pebble", 0.1)
    shown = Page(text)
    (most,) = Counter(shown.all("id")).most_common(1)
    assert most[1] == 1, most
    links = [*shown.all("xlink:href"), *re.findall(r"url\(([^)]*)\)", text)]
    assert len(links) > 100
    assert {link.removeprefix("#") for link in links} <= {*shown.all("id")}


@pytest.mark.usefixtures("coarse")
def test_untrusted_text_is_escaped(results: Path, make: MakeFolder) -> None:
    bad = '"><img src=http://example.org/x onerror="alert(1)">'
    changes = {"env.protocol": bad, "env.teacher": bad, "env.id": bad, "commit": bad}
    make("hopper", "sail", 0, **changes, device=bad, versions={bad: bad, "mujoco": bad})
    make("hopper", "sail", 1, **changes, status="failed", failure=bad, versions={"mujoco": bad})
    shown = page(results)
    assert not {tag for tag, _ in shown.tags} & {"img", "script"}
    assert shown.text.count(bad) > 8


@pytest.mark.usefixtures("study")
def test_the_page_is_byte_identical(results: Path, tmp_path: Path) -> None:
    pages = []
    for hashing in ("1", "2"):
        out = tmp_path / hashing / "report.html"
        done = program(
            *("report", "--results", str(results), "--out", str(out)),
            env={**os.environ, "PYTHONHASHSEED": hashing},
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout == f"{out}\n"
        assert [*out.parent.iterdir()] == [out]
        pages.append(out.read_bytes())
    assert pages[0] == pages[1]


@pytest.mark.parametrize("out", ["report.txt", "folder.html", "file/report.html"])
@pytest.mark.usefixtures("three_arms", "coarse")
def test_a_page_that_cannot_be_written_is_a_one_line_error(
    results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], out: str
) -> None:
    (tmp_path / "folder.html").mkdir()
    (tmp_path / "file").touch()
    before = {*tmp_path.iterdir()}
    said = fails(capsys, "report", "--results", str(results), "--out", str(tmp_path / out))
    assert out in said
    assert {*tmp_path.iterdir()} == before


# --- many runs ---------------------------------------------------------------------------------


def test_four_hundred_runs_are_plotted_and_reported_in_less_than_two_gibibytes(
    tmp_path: Path,
) -> None:
    results, points = tmp_path / "results", 50
    steps = tuple(range(1000, 1000 * points + 1, 1000))
    for place in range(4):
        for level, agent in enumerate(("random", "sac", "pebble", "sail", "sail_revkl")):
            asks = agent not in ("random", "sac")
            height = 10 if agent == "sac" else level
            for seed in range(20):
                write_run(
                    results,
                    f"env_{place}",
                    agent,
                    seed,
                    tuple(height * x / points + seed / 10 for x in range(points)),
                    answers=("1", "0") * 5 if asks else (),
                    steps=steps,
                    labels=tuple(x // 5 for x in range(points)),
                    success=0.5,
                    training={
                        "step": steps,
                        "held_out_accuracy": [0.5 + seed / 50] * points,
                        "labels": [x // 5 for x in range(points)],
                    },
                )
    for words in (["plot", "--out", "figures"], ["report"]):
        command = [*PROGRAM, *words, "--results", str(results)]
        process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL)
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        assert process.returncode == 0
        assert used.ru_maxrss < 2 * 2**20  # KiB
    drawn = {path.stem for path in (tmp_path / "figures").iterdir()}
    assert drawn == {*recipe_names("plots")} - OTHER_FIGURES
    assert (tmp_path / "report.html").is_file()
