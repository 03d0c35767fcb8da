"""The checkout that the tests lie in."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def readme(title: str) -> str:
    """The section of the README under a title."""
    return (ROOT / "README.md").read_text().split(f"## {title}")[1].split("\n## ")[0]
