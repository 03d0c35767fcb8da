"""Reading and pooling of results; errors name the file and the reason."""

from __future__ import annotations

import codecs
from pathlib import Path

import pytest
from helpers.results import RUN, MakeFolder, write_run

from mujoco_sail.results.pooling import NoRunsError, collect
from mujoco_sail.results.read import EVALUATIONS, FEEDBACK
from mujoco_sail.system.errors import UserError


def refusal(results: Path) -> str:
    """Message of the error when the folder is read."""
    with pytest.raises(UserError) as error:
        collect(results)
    message = str(error.value)
    assert message.count("\n") <= 1
    return message


# --- what may be pooled ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("env.protocol", "paper"),
        ("env.backend", "envpool"),
        ("env.teacher", "noisy"),
        ("env.oracle.beta", 1.0),
        ("env.labels", 5),
        ("env.extra", "key"),
        ("versions.mujoco", "3.3.1"),
        ("versions.gymnasium", "1.5.0"),
        ("versions.dm_control", "1.0.29"),
        ("versions.metaworld", "3.2.0"),
        ("versions.envpool", "1.2.5"),
        ("versions.mujoco_sail", "0.2.0"),
    ],
)
@pytest.mark.usefixtures("three_arms")
def test_runs_with_different_environment_settings_are_not_pooled(
    results: Path, make: MakeFolder, key: str, value: object
) -> None:
    folder = make("walker_walk", "zeta", 0, **{key: value})
    message = refusal(results)
    scope, _, rest = key.partition(".")
    common = "(absent)" if rest in ("extra", "envpool") else None
    if common is None:
        common = RUN[scope]["oracle"]["beta"] if "oracle" in key else RUN[scope][rest]
    for part in (folder, results / "walker_walk" / "pebble" / "seed_0", f"{key}:"):
        assert str(part) in message
    assert {repr(value), repr(common)} <= set(message.split("\n")[1].replace(";", "").split())


@pytest.mark.usefixtures("three_arms")
def test_runs_on_other_environments_and_devices_can_be_read_together(
    results: Path, make: MakeFolder
) -> None:
    make("ant", "sail", 0, **{"env.protocol": "paper", "agent.lambda": 2.0})
    make("walker_walk", "sail", 3, device="cuda", **{"versions.torch": "2.14.0"})
    assert len(collect(results)) == 11


def test_teachers_that_are_recorded_in_another_order_are_pooled(
    results: Path, make: MakeFolder
) -> None:
    for seed, teacher in enumerate(("noisy+skip", "skip+noisy")):
        make("walker_walk", "sail", seed, **{"env.teacher": teacher})
    assert {run.table["env"]["teacher"] for run in collect(results)} == {"noisy+skip"}


@pytest.mark.usefixtures("three_arms")
def test_seeds_of_an_agent_share_every_hyperparameter(results: Path, make: MakeFolder) -> None:
    make("walker_walk", "sail", 3, **{"agent.lambda": 2.0})
    message = refusal(results)
    assert "sail/seed_0" in message
    assert "sail/seed_3 differ in agent.lambda:\n1.0 and 2.0" in message


@pytest.mark.parametrize("agent", ["sail", "another"])
@pytest.mark.usefixtures("three_arms")
def test_agents_with_labels_must_have_used_equally_many(
    results: Path, make: MakeFolder, agent: str
) -> None:
    make("walker_walk", agent, 3, answers=("1", "skip", "0"))
    assert "differ in labels used:\n3 and 2;" in refusal(results).replace("2 and 3", "3 and 2")


@pytest.mark.usefixtures("three_arms")
def test_a_run_without_labels_is_not_pooled_with_runs_that_use_labels(
    results: Path, make: MakeFolder
) -> None:
    make("walker_walk", "sail", 3, answers=("skip",))
    assert "labels used" in refusal(results)


@pytest.mark.usefixtures("three_arms")
def test_evaluations_at_other_steps_are_an_error(results: Path, make: MakeFolder) -> None:
    make("walker_walk", "sail", 3, steps=(100, 201, 300))
    assert "step of evaluation 2" in refusal(results)


# --- damaged and strange folders ---------------------------------------------------------------


def test_empty_or_missing_folder_says_what_to_run(results: Path) -> None:
    assert f"{results}: no results here;\nfirst run" in refusal(results)
    results.mkdir()
    said = refusal(results)
    assert "mujoco-sail run --env" in said
    assert said.endswith(f"--results {results}")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("run.toml", "status = "),
        ("run.toml", "x = " + "[" * 5000),
        ("run.toml", "\xff\xfe"),
        ("run.toml", "status = 'complete'"),
        ("run.toml", "status = 'done'\n[env]\n[agent]\n[versions]"),
        ("run.toml", "status = 'complete'\nseed = '0'\n[env]\n[agent]\n[versions]"),
        ("evaluations.csv", None),
        ("evaluations.csv", ""),
        ("evaluations.csv", "step,episode_return\n1,2\n"),
        ("evaluations.csv", ",".join(EVALUATIONS)),
        ("evaluations.csv", ",".join(EVALUATIONS) + "\n1,many,0,1,,0"),
        ("evaluations.csv", ",".join(EVALUATIONS) + "\n1,inf,0,1,,0"),
        ("evaluations.csv", ",".join(EVALUATIONS) + "\n1,2,0,1,most,0"),
        ("evaluations.csv", ",".join(EVALUATIONS) + "\n1,2,0,1,,0,9,9"),
        ("evaluations.csv", ",".join(EVALUATIONS) + "\n1,2,0"),
        ("evaluations.csv", ",".join(EVALUATIONS) + "\n2,1,0,1,,0\n1,1,0,1,,0"),
        ("feedback.csv", None),
        ("feedback.csv", "step,label\n1,1\n"),
        ("feedback.csv", ",".join(FEEDBACK) + "\n1,0,0,1,2,0.7"),
        ("feedback.csv", ",".join(FEEDBACK) + "\n1,0,0,1,2,"),
        ("feedback.csv", ",".join(FEEDBACK) + "\n1,0,0,1,2,__import__('os')"),
    ],
)
def test_damaged_file_is_an_error_that_names_it(
    results: Path, make: MakeFolder, name: str, content: str | None
) -> None:
    file = make("ant", "sail", 0) / name
    file.unlink()
    if content is not None:
        file.write_bytes(content.encode("latin-1"))
    assert refusal(results).startswith(f"{file}: ")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("step;episode_return;labels\n100;1,5;0\n", "between semicolons or tabs"),
        ("step;labels\n100;0\n", "between semicolons or tabs"),
        ("step\tepisode_return\n100\t1,5\n", "between semicolons or tabs"),
        ("step,labels\n100,0,1\n", "a row is longer than the header"),
        ('step,labels\n100,"0\n', "a quotation is not closed"),
        ("", "empty"),
    ],
)
@pytest.mark.parametrize("name", ["evaluations.csv", "feedback.csv"])
def test_a_table_that_a_spreadsheet_saved_otherwise_says_so(
    results: Path, make: MakeFolder, name: str, content: str, reason: str
) -> None:
    file = make("ant", "sail", 0) / name
    file.write_text(content)
    said = refusal(results)
    assert said.startswith(f"{file}: cannot be read: ")
    assert reason in said


def test_files_are_read_as_editors_on_windows_save_them(results: Path, make: MakeFolder) -> None:
    folder = make("ant", "sail", 0, (1, 2, 3))
    for file in folder.iterdir():
        file.write_bytes(codecs.BOM_UTF8 + file.read_bytes().replace(b"\n", b"\r\n"))
    (run,) = collect(results)
    assert run.evaluations["episode_return"].tolist() == [1, 2, 3]
    assert run.labels == 3


def test_copied_run_does_not_count_as_another_seed(results: Path, make: MakeFolder) -> None:
    folder = make("ant", "sail", 0)
    folder.rename(folder.with_name("seed_1"))
    assert "belongs to ant/sail/seed_0, but is in ant/sail/seed_1" in refusal(results)


def test_seed_is_a_whole_number(results: Path, make: MakeFolder) -> None:
    folder = make("ant", "sail", 0)
    text = (folder / "run.toml").read_text()
    (folder / "run.toml").write_text(text.replace("seed = 0", 'seed = "0"'))
    assert "run.toml" in refusal(results)


def test_a_folder_of_results_folders_is_named_with_these(tmp_path: Path) -> None:
    for name in "fedcba":
        write_run(tmp_path / name, "ant", "sail", 0)
    (tmp_path / "aa").mkdir()
    with pytest.raises(NoRunsError) as caught:
        collect(tmp_path)
    inside = ", ".join(str(tmp_path / name) for name in "abcd")
    assert str(caught.value).splitlines() == [
        f"{tmp_path}: no results here, but in {inside};",
        f"name one folder, say, --results {tmp_path / 'a'}",
    ]


def test_an_environment_cannot_have_the_name_of_the_pooled_rows(
    results: Path, make: MakeFolder
) -> None:
    make("pooled", "sail", 0)
    assert "'pooled' is no valid name; tables use it for all" in refusal(results)
