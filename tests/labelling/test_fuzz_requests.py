"""Malformed requests are refused, write nothing, and leave the server serving."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from helpers.asgi import Client
from helpers.fuzz_values import texts, values
from helpers.fuzzing import cases
from helpers.people import sketch, waiting
from hypothesis import assume, given
from hypothesis import strategies as st

from mujoco_sail.labelling.app import application
from mujoco_sail.labelling.clips import ClipCache
from mujoco_sail.labelling.question_queue import QuestionQueue

TOKEN = "0123456789abcdef"
PATHS = ("", "next", "answer", "undo", "release", "page.js", "clip/KEY/0/0", "clip/KEY/1/1")
words = st.one_of(texts, st.text(max_size=30), st.sampled_from(["..", "%2e%2e", "KEY", "9" * 5000]))


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Client, dict[str, Any]]:
    results = tmp_path_factory.mktemp("asked")
    waiting(results)
    client = Client(application(QuestionQueue(results, ClipCache(sketch)), TOKEN))
    return results, client, client.get(f"/{TOKEN}/next?page=a").json()


@st.composite
def bodies(draw: st.DrawFn) -> bytes:
    """A body that is not the answer to an open pair, nor the wish of a page to undo."""
    answer: dict[str, Any] = {"key": "KEY", "pair": 0, "repeat": False, "answer": "left"}
    answer |= {"seconds": 1.0, "page": "a"}
    kind = draw(st.sampled_from(["bytes", "value", "changed", "changed", "changed", "torn"]))
    if kind == "bytes":
        return draw(st.binary(max_size=3000))
    if kind == "value":
        return json.dumps(draw(values), default=str).encode()
    if kind == "torn":
        return json.dumps(answer).encode()[: draw(st.integers(0, 60))]
    name = draw(st.sampled_from([*answer, "other"]))
    answer[name] = draw(st.one_of(values, texts, st.integers(), st.floats()))
    if draw(st.booleans()):
        answer.pop(draw(st.sampled_from([*answer])))
    return json.dumps(answer, default=str).encode()


@st.composite
def requests(draw: st.DrawFn) -> tuple[str, str, bytes]:
    method = draw(st.sampled_from(["GET", "POST", "POST", "POST", "PUT", "DELETE", "HEAD", "XX"]))
    token = draw(st.sampled_from([TOKEN, TOKEN, TOKEN, TOKEN, "", TOKEN[:-1], TOKEN.upper()]))
    path = draw(st.one_of(st.sampled_from(PATHS), st.sampled_from(PATHS), words))
    parts = [part if draw(st.integers(0, 5)) else draw(words) for part in path.split("/")]
    query = draw(st.one_of(st.just(""), words.map(lambda text: f"?page={text}")))
    return method, f"/{token}/{'/'.join(parts)}{query}", draw(bodies())


@cases("requests")
@given(request=requests())
def test_a_malformed_request_is_refused_and_writes_nothing(
    asked: tuple[Path, Client, dict[str, Any]], request: tuple[str, str, bytes]
) -> None:
    results, client, pair = asked
    method, address, body = request
    before = {path: path.read_bytes() for path in results.rglob("*") if path.is_file()}
    key = pair["key"]
    body = body.replace(b"KEY", key.encode())
    reply = client.ask(method, address.replace("KEY", key), body)
    after = {path: path.read_bytes() for path in results.rglob("*") if path.is_file()}
    if reply.status == 200 and method == "POST":  # the changes happen to be a good answer
        said = json.loads(body)
        assert 0 <= said["pair"] <= 3
        (log,) = results.rglob("answers.jsonl")
        log.unlink()
        assume(False)
    assert reply.status < 500
    if method not in ("GET", "HEAD"):
        assert reply.status >= 400
    assert {path: data for path, data in after.items() if path.name != "answers.jsonl"} == before
    assert not any(after[path] for path in after if path.name == "answers.jsonl")
    assert client.get(f"/{TOKEN}/next?page=a").json() == pair
