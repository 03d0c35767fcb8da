"""Pickle that reveals its execution."""

from __future__ import annotations

from pathlib import Path
from typing import Any


class Planted:
    """Object that creates a file when it is unpickled."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.trace,)
