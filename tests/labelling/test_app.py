"""The page's server: who gets in, what is asked next, and what is refused."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from helpers.asgi import Client
from helpers.people import scripted, sketch, trained_by, truth, waiting
from helpers.runs import FILES, members_of
from helpers.tiny import CPU, tiny_task

from mujoco_sail.labelling.app import HERE, application
from mujoco_sail.labelling.clips import ClipCache, Draw
from mujoco_sail.labelling.question_queue import QuestionQueue
from mujoco_sail.preferences import answers
from mujoco_sail.preferences.answers import AnswerLog
from mujoco_sail.preferences.questions import Question, read_question, read_states, run_of
from mujoco_sail.system.errors import UserError
from mujoco_sail.training.run import Run

TOKEN = "0123456789abcdef"


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Results of a run that waits."""
    results = tmp_path_factory.mktemp("asked")
    waiting(results)
    return results


@pytest.fixture
def results(asked: Path, tmp_path: Path) -> Path:
    shutil.copytree(asked, tmp_path / "results")
    return tmp_path / "results"


@contextmanager
def server(results: Path, renderer: Callable[[Question], Draw] = sketch) -> Iterator[Client]:
    cache = ClipCache(renderer)
    client = Client(application(QuestionQueue(results, cache), TOKEN))
    yield client
    client.close()
    cache.close()


@pytest.fixture
def client(results: Path) -> Iterator[Client]:
    with server(results) as made:
        yield made


@pytest.mark.parametrize("damage", ["nonsense\n", "[]\n", "{}\n", '{"key":"k0"}\n'])
def test_damaged_answers_stop_their_run_alone(results: Path, damage: str) -> None:
    (path,) = results.glob("*/*/seed_*/questions/session_*.npz")
    question = read_question(path)
    assert question is not None
    other = run_of(path).with_name("seed_9")
    shutil.copytree(run_of(path), other)
    log = AnswerLog(run_of(path))
    log.path.write_text(damage.replace("k0", question.key))
    with pytest.raises(UserError, match=r"answers\.jsonl: cannot be read: not what"):
        log.given(question.key)
    with server(results) as client:
        assert shown(client)["state"] == "ask"
        shutil.rmtree(other)
        assert shown(client)["state"] == "idle"


def shown(client: Client, page: str = "a") -> dict[str, Any]:
    reply = client.get(f"/{TOKEN}/next?page={page}")
    assert reply.status == 200
    return reply.json()


def said(pair: dict[str, Any], answer: str, page: str = "a") -> dict[str, Any]:
    asked = {name: pair[name] for name in ("key", "pair", "repeat")}
    return {**asked, "answer": answer, "seconds": 1.5, "page": page}


def press(client: Client, pair: dict[str, Any], answer: str, page: str = "a") -> dict[str, Any]:
    reply = client.post(f"/{TOKEN}/answer", said(pair, answer, page))
    assert reply.status == 200, reply.content
    return reply.json()


def test_a_session_is_answered_pair_by_pair(client: Client, results: Path) -> None:
    one = shown(client)
    assert (one["state"], one["pair"], one["left"], one["left_in_all"]) == ("ask", 0, 4, 8)
    assert one["question"] == "Which runs forward faster?"
    assert not one["undo"]
    two = press(client, one, "left")
    assert (two["pair"], two["left"], two["left_in_all"], two["undo"]) == (1, 3, 7, True)
    three = press(client, two, "skip")
    assert (three["pair"], three["left"], three["left_in_all"]) == (2, 3, 7)
    back = client.post(f"/{TOKEN}/undo", {"page": "a"}).json()
    assert (back["pair"], back["left"]) == (1, 3)
    five = press(client, press(client, back, "tie"), "right")
    end = press(client, five, "right")
    assert (end["state"], end["undo"]) == ("answered", True)
    (path,) = results.glob("*/*/*/questions/*.npz")
    given, _ = AnswerLog(run_of(path)).given(shown(client).get("key", one["key"]))
    assert [answer.answer for answer in given.values()] == ["left", "tie", "right", "right"]
    assert {answer.seconds for answer in given.values()} == {1.5}


def test_clips_are_those_of_the_pair_and_of_the_next(client: Client, results: Path) -> None:
    (path,) = results.glob("*/*/*/questions/*.npz")
    one = shown(client)
    for side, address in enumerate(one["clips"]):
        reply = client.get(f"/{TOKEN}/{address}")
        assert reply.headers["content-type"] == "video/mp4"
        assert reply.content == read_states(path, 0, side).tobytes()[:64]
    assert press(client, one, "left")["clips"] == one["ahead"]


def test_the_page_is_told_why_a_clip_cannot_be_drawn(results: Path) -> None:
    def without_a_library(_: Question) -> Draw:
        raise UserError("needs the package dm_control")

    with server(results, without_a_library) as client:
        reply = client.get(f"/{TOKEN}/{shown(client)['clips'][0]}")
    assert (reply.status, reply.content) == (503, b"needs the package dm_control")


def test_a_pair_that_is_shown_again_has_its_sides_swapped(tmp_path: Path) -> None:
    waiting(tmp_path, labels=20, labels_per_session=10, segment_steps=5)
    with server(tmp_path) as client:
        pair = shown(client)
        for _ in range(10):
            pair = press(client, pair, "left")
        assert (pair["pair"], pair["repeat"], pair["left"]) == (0, True, 1)
        assert [address[-1] for address in pair["clips"]] == ["1", "0"]
        press(client, pair, "right")
        (path,) = tmp_path.glob("*/*/*/questions/*.npz")
        given, _ = AnswerLog(run_of(path)).given(pair["key"])
        assert given[0, True].answer == "left"


def test_labels_that_the_run_has_no_time_for_are_not_counted_as_left(tmp_path: Path) -> None:
    question = read_question(waiting(tmp_path, labels=4000))
    assert question is not None
    assert question.labels_left == tiny_task(labels=4000).labels_in_reach < 4000


def test_two_pages_get_different_pairs_and_share_the_work(client: Client) -> None:
    left, right = shown(client, "a"), shown(client, "b")
    assert (left["pair"], right["pair"]) == (0, 1)
    assert shown(client, "a")["pair"] == 0
    assert press(client, left, "left", "a")["pair"] == 2
    assert press(client, right, "left", "b")["pair"] == 3
    idle = press(client, {**right, "pair": 3}, "left", "b")
    assert (idle["state"], idle["others"]) == ("answered", True)


@pytest.mark.parametrize("other", ["agent", "environment"])
def test_runs_of_equal_seeds_that_ask_the_same_pairs_share_no_answers(
    results: Path, tmp_path: Path, other: str
) -> None:
    recipe = tmp_path / "another.toml"
    recipe.write_text('base = "half_cheetah"')
    waiting(results, "sail") if other == "agent" else waiting(results, env=str(recipe))
    with server(results) as client:
        pair, keys = shown(client), []
        while pair["state"] == "ask":
            keys.append(pair["key"])
            pair = press(client, pair, "left")
    assert [keys.count(key) for key in dict.fromkeys(keys)] == [4, 4]
    logs = list(results.glob("*/*/*/questions/answers.jsonl"))
    assert [len(log.read_text().splitlines()) for log in logs] == [4, 4]


def test_a_page_that_was_closed_gives_its_pair_to_another(client: Client) -> None:
    assert [shown(client, page)["pair"] for page in "ab"] == [0, 1]
    assert client.post(f"/{TOKEN}/release", {"page": "a"}).status == 204
    assert [shown(client, page)["pair"] for page in "ba"] == [0, 1]


def test_a_server_that_was_restarted_asks_for_the_same_pair(client: Client, results: Path) -> None:
    two = press(client, shown(client), "left")
    with server(results) as again:
        assert {**shown(again), "left_in_all": 7} == two


def test_an_answer_to_a_pair_that_is_not_open_is_refused(client: Client, results: Path) -> None:
    one = shown(client)
    press(client, one, "left")
    (log,) = results.glob("*/*/*/questions/answers.jsonl")
    before = log.read_bytes()
    for changes in ({}, {"pair": 30}, {"pair": -1}, {"key": "none"}, {"repeat": True}):
        reply = client.post(f"/{TOKEN}/answer", said({**one, **changes}, "right"))
        assert reply.status == 409
    assert log.read_bytes() == before


def test_nothing_is_served_without_the_token(client: Client) -> None:
    for path in ("/", "/next?page=a", "/page.js", "/wrong/", f"/{TOKEN}x/", f"/{TOKEN[:-1]}/next"):
        assert client.get(path).status == 404
    assert client.get(f"/{TOKEN}/").status == 200


def test_no_file_but_the_pages_own_is_served(client: Client) -> None:
    for name in ("app.py", "..%2Fapp.py", "../app.py", "%2e%2e/app.py", "page.html", "clip/x/0/0"):
        assert client.get(f"/{TOKEN}/{name}").status == 404
    for name in ("page.css", "page.js"):
        reply = client.get(f"/{TOKEN}/{name}")
        assert reply.content == (HERE / name).read_bytes()
        assert "default-src 'none'" in reply.headers["content-security-policy"]


@pytest.mark.parametrize(
    "changes",
    [
        {"answer": "both"},
        {"answer": "undo"},
        {"answer": None},
        {"seconds": -1},
        {"seconds": 1e9},
        {"seconds": "1"},
        {"pair": "0"},
        {"pair": True},
        {"repeat": 0},
        {"page": ""},
        {"page": "a" * 33},
        {"page": "../a"},
        {"key": 1},
        {"more": 1},
    ],
)
def test_a_malformed_answer_is_refused(client: Client, changes: dict[str, Any]) -> None:
    body = {**said(shown(client), "left"), **changes}
    assert client.post(f"/{TOKEN}/answer", body).status == 400
    assert shown(client)["pair"] == 0


def test_a_large_body_is_refused(client: Client) -> None:
    body = {**said(shown(client), "left"), "page": "a" * 2000}
    assert client.post(f"/{TOKEN}/answer", body).status == 413


def test_an_answer_that_cannot_be_written_is_not_accepted(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    one = shown(client)
    monkeypatch.setattr(answers.os, "fsync", full)
    assert client.post(f"/{TOKEN}/answer", said(one, "left")).status == 507


def test_a_person_on_the_page_who_answers_as_the_oracle_gets_its_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a new server after two answers, a new run after three, and second thoughts.

    Every pair that is shown a second time gets the opposite answer, which nothing learns from.
    """
    monkeypatch.setattr(answers, "GRACE", 0.0)
    changes = {"labels": 20, "labels_per_session": 10, "segment_steps": 5}
    run = Run(tiny_task(**changes), members_of([("pebble", 0)]), CPU, tmp_path / "oracle", print)
    run.execute()
    oracle, served = run.files[0].folder, 0

    def respond(path: Path) -> None:
        nonlocal served
        for count in (2, 1):
            with server(tmp_path / "person") as client:
                served += 1
                for _ in range(count):
                    if (pair := shown(client))["state"] == "ask":
                        question = read_question(path)
                        assert question is not None
                        answer = truth(oracle, question, pair["pair"])
                        press(client, pair, answer)  # the sides of a repetition are swapped

    person = trained_by(respond, tmp_path / "person", **changes)
    for name in FILES:
        assert (person.files[0].folder / name).read_bytes() == (oracle / name).read_bytes()
    assert served >= 14
    lines = AnswerLog(person.files[0].folder).entries()
    assert sum("answer" in line for line in lines) == 22
    repeats = [line for line in lines if line.get("repeat")]
    asked = [line for line in lines if line.get("repeat") is False]
    firsts = {(line["key"], line["pair"]): line["answer"] for line in asked}
    assert len(repeats) == 2
    assert all(firsts[line["key"], line["pair"]] != line["answer"] for line in repeats)


def test_a_finished_run_is_asked_for_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answers, "GRACE", 0.0)
    run = Run(tiny_task(), members_of([("pebble", 0)]), CPU, tmp_path / "oracle", print)
    run.execute()
    trained_by(scripted(run.files[0].folder), tmp_path / "person")
    with server(tmp_path / "person") as client:
        assert (shown(client)["state"], shown(client)["left_in_all"]) == ("idle", 0)
