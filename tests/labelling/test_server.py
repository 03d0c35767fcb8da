"""The address of the page: its secret and its port."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
from helpers.command_line import fails

from mujoco_sail.labelling import server
from mujoco_sail.system.errors import UserError


def test_the_secret_is_kept_and_only_its_owner_can_read_it(tmp_path: Path) -> None:
    token = server.read_token(tmp_path)
    assert len(token) == 32
    assert server.read_token(tmp_path) == token
    assert (tmp_path / server.TOKEN).stat().st_mode & 0o777 == 0o600
    (tmp_path / "other").mkdir()
    assert server.read_token(tmp_path / "other") != token


def test_a_damaged_secret_is_refused(tmp_path: Path) -> None:
    (tmp_path / server.TOKEN).write_text("x")
    with pytest.raises(UserError, match="holds no token"):
        server.read_token(tmp_path)


def test_the_printed_address_is_one_that_a_browser_can_open() -> None:
    assert server._reachable("127.0.0.1", 8642) == "127.0.0.1:8642"
    assert server._reachable("::1", 8642) == "[::1]:8642"
    assert server._reachable("0.0.0.0", 8642) == f"{socket.getfqdn()}:8642"


def test_a_wrong_address_or_folder_gives_a_one_line_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "choose_gl_backend", lambda: None)
    results = ["--results", str(tmp_path)]
    assert "no such folder" in fails(capsys, "label", "--results", str(tmp_path / "none"))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert f"--port {port}: " in fails(capsys, "label", *results, "--port", port)
    hosts = [["--host", host] for host in ("no.such.host.invalid", "192.168..10")]
    for words in (["--port", "99999"], ["--port", "-1"], *hosts):
        assert "--host" in fails(capsys, "label", *results, *words)


def test_the_page_listens_on_this_machine_alone() -> None:
    from mujoco_sail.cli import _parser

    assert _parser().parse_args(["label"]).host == "127.0.0.1"
