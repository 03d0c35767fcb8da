"""Address of the option `--cluster`."""

from __future__ import annotations

import pytest
from helpers.command_line import fails


@pytest.mark.parametrize(
    ("address", "variable"),
    [
        ("ray://10.0.0.1:10001", ""),
        ("http://10.0.0.1:8265", ""),
        ("10.0.0.1", ""),
        ("10.0.0.1:99999", ""),
        ("", ""),
        ("auto", "ray://10.0.0.1:10001"),
    ],
)
def test_an_invalid_address_gives_an_error_with_the_expected_form(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    address: str,
    variable: str,
) -> None:
    pytest.importorskip("ray")
    monkeypatch.setenv("RAY_ADDRESS", variable)
    said = fails(capsys, "run", "--env=half_cheetah", f"--cluster={address}")
    assert f"--cluster {address}" in said
    assert variable in said
    assert "expected auto or HOST:PORT as ray start prints it, such as 10.0.0.1:6379" in said
