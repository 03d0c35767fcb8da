"""Files of the checkout."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def readme(title: str) -> str:
    """Section of the README with a given title."""
    return (ROOT / "README.md").read_text().split(f"## {title}")[1].split("\n## ")[0]


def build_wheel(folder: Path) -> Path:
    """Builds a wheel of the project in a folder."""
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    return wheel
