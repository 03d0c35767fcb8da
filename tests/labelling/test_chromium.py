"""The page in a real browser: keys, buttons, undo, tabs, reload, and a server that is killed."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from helpers.command_line import PROGRAM, SMALL, overrides
from helpers.people import truth, waiting
from helpers.runs import contents, members_of
from helpers.tiny import CPU, tiny_task

from mujoco_sail.policies import film
from mujoco_sail.preferences.answers import AnswerLog
from mujoco_sail.preferences.questions import read_question, run_of
from mujoco_sail.training.run import Run

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
PATIENCE = 180.0  # seconds
MORE = {"labels": 20, "labels_per_session": 10, "segment_steps": 5}  # with pairs shown twice

pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="needs a browser: apt-get install chromium"),
    pytest.mark.skipif(not find_spec("playwright"), reason="needs pip install playwright"),
]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if not any(film.can_render(backend) for backend in film.GL_BACKENDS):
        pytest.skip("no OpenGL backend draws here: apt-get install libegl1 libosmesa6")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        made = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield made
        made.close()


def started(*words: str) -> subprocess.Popen[str]:
    variables = {key: value for key, value in os.environ.items() if key != "MUJOCO_GL"}
    return subprocess.Popen(
        [*PROGRAM, *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=variables,
        start_new_session=True,
    )


class Server:
    """`mujoco-sail label`, which can be killed and started again at the same address."""

    def __init__(self, results: Path) -> None:
        self.results = results
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.address = self.start()

    def start(self) -> str:
        port = str(self.port)
        self.process = started("label", "--results", str(self.results), "--port", port)
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()


class Tab:
    """A tab of the browser, and what it had to complain about."""

    def __init__(self, browser: Any, server: Server, context: Any = None, **options: Any) -> None:
        self.context = context or browser.new_context(**options)
        self.page = self.context.new_page()
        self.errors: list[str] = []
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("console", self._note)
        self.page.goto(server.address)

    def _note(self, line: Any) -> None:
        gone = "Failed to load resource" in line.text  # of a server that was killed
        if line.type in ("error", "warning") and not gone:
            self.errors.append(line.text)

    def until(self, condition: str) -> dict[str, Any]:
        deadline = time.monotonic() + PATIENCE
        while not self.page.evaluate(f"() => Boolean(shown && !busy && ({condition}))"):
            assert time.monotonic() < deadline, self.page.inner_text("main")
            time.sleep(0.05)
        return self.page.evaluate("() => shown")

    def pair(self) -> dict[str, Any]:
        return self.until("shown.state === 'ask'")

    def press(self, key: str) -> None:
        self.page.keyboard.press(key)


def given(results: Path) -> list[tuple[int, bool, str]]:
    (path,) = results.glob("*/*/*/questions/session_*.npz")
    question = read_question(path)
    assert question is not None
    found, _ = AnswerLog(run_of(path)).given(question.key)
    return [(pair, again, answer.answer) for (pair, again), answer in found.items()]


@pytest.mark.parametrize(("width", "scheme"), [(320, "dark"), (1400, "light")])
def test_keys_buttons_undo_reload_and_a_second_tab(
    browser: Any, tmp_path: Path, width: int, scheme: str
) -> None:
    waiting(tmp_path, **MORE)
    server = Server(tmp_path)
    size = {"width": width, "height": 700}
    tab = Tab(browser, server, viewport=size, color_scheme=scheme)
    assert tab.pair()["pair"] == 0
    assert tab.page.inner_text("h1") == "Which runs forward faster?"
    assert tab.page.inner_text("#status") == "11 left in this session, 20 in all."
    assert tab.page.is_disabled("#undo")
    assert tab.page.evaluate("() => videos.every((video) => video.videoWidth === 360)")
    assert tab.page.evaluate("() => document.documentElement.scrollWidth") <= width
    tab.press("ArrowLeft")
    tab.until("shown.pair === 1")
    tab.page.click("#right")
    tab.until("shown.pair === 2")
    tab.press("ArrowUp")
    tab.until("shown.pair === 3")
    tab.press("ArrowDown")
    tab.until("shown.pair === 4")
    assert given(tmp_path)[2:] == [(2, False, "skip"), (3, False, "tie")]
    tab.press("Backspace")
    tab.until("shown.pair === 3")
    tab.page.click("#undo")
    tab.until("shown.pair === 2")
    assert given(tmp_path) == [(0, False, "left"), (1, False, "right")]

    other = Tab(browser, server, tab.context)
    assert other.pair()["pair"] == 3
    other.press("ArrowRight")
    other.until("shown.pair === 4")
    tab.page.reload()
    assert tab.pair()["pair"] == 2
    tab.press("u")
    assert tab.until("shown.pair === 1")["undo"]

    before = tab.page.evaluate("() => videos[0].paused")
    tab.press("Space")
    assert (before, tab.page.evaluate("() => videos[0].paused")) == (False, True)
    server.kill()
    tab.press("ArrowLeft")
    deadline = time.monotonic() + PATIENCE
    while "does not answer" not in tab.page.inner_text("#status"):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    server.start()
    tab.until("shown.pair === 2")
    assert (1, False, "left") in given(tmp_path)
    assert tab.errors == other.errors == []
    tab.context.close()
    server.kill()


def test_a_tab_that_is_closed_gives_its_pair_to_another(browser: Any, tmp_path: Path) -> None:
    waiting(tmp_path, **MORE)
    server = Server(tmp_path)
    tab = Tab(browser, server)
    other = Tab(browser, server, tab.context)
    assert (tab.pair()["pair"], other.pair()["pair"]) == (0, 1)
    tab.page.close()
    other.page.reload()
    assert other.pair()["pair"] == 0
    assert tab.errors == other.errors == []
    other.context.close()
    server.kill()


def test_a_person_in_a_browser_who_answers_as_the_oracle_gets_its_run(
    browser: Any, tmp_path: Path
) -> None:
    """The run, the page's server and the browser's tab are each killed in between."""
    results = tmp_path / "person"
    oracle = Run(tiny_task(**MORE), members_of([("pebble", 0)]), CPU, tmp_path / "oracle", print)
    oracle.execute()
    words = ["--env", "half_cheetah", "--agents", "pebble", "--seeds", "1", "--protocol", "quick"]
    words += ["--device", "cpu", "--teacher", "human", "--results", str(results)]
    words += [*SMALL, *overrides(MORE)]
    results.mkdir()
    run, server = started("run", *words), Server(results)
    tab = Tab(browser, server)
    tabs = [tab]
    for count in range(22):
        if count == 3:
            server.kill()
            server.start()
        if count in (7, 15):
            os.killpg(run.pid, signal.SIGKILL)
            run.communicate()
        if count == 9:
            tab.context.close()
            tab = Tab(browser, server)
            tabs.append(tab)
        if count in (10, 16):
            run = started("run", *words)
        pair = tab.pair()
        (path,) = results.glob("*/*/*/questions/session_*.npz")
        question = read_question(path)
        assert question is not None
        assert question.key == pair["key"]
        answer = truth(oracle.files[0].folder, question, pair["pair"])
        if pair["repeat"]:
            answer = {"left": "right", "right": "left"}.get(answer, answer)
        keys = {"left": "ArrowLeft", "right": "ArrowRight", "tie": "ArrowDown"}
        if count % 2:
            tab.press(keys[answer])
        else:
            tab.page.click(f"#{answer}")
        old = f"{pair['key']} {pair['pair']} {pair['repeat']}".lower()
        tab.until(f"`${{shown.key}} ${{shown.pair}} ${{shown.repeat}}` !== '{old}'")
    output, _ = run.communicate(timeout=PATIENCE)
    assert run.returncode == 0, output
    assert contents(results) == contents(tmp_path / "oracle")
    assert [error for tab in tabs for error in tab.errors] == []
    server.kill()
