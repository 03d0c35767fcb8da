"""Parser of the README, CONTRIBUTING.md and the pages in docs/."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from helpers.checkout import ROOT
from helpers.command_line import overrides
from helpers.tiny import TINY

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
FENCE = re.compile(r"^```(.*?)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
CODE = re.compile(r"`([^`\n]+)`")
# Options that shorten a command of the pages.
TASK = overrides(TINY | {"steps": 100, "evaluation_every": 50})
TINY_RUN = [*TASK, "--device", "cpu", "--seeds", "1"]


@dataclass(frozen=True)
class Block:
    page: str
    kind: str
    text: str
    file: str  # name at the end of the preceding paragraph, or empty

    @property
    def commands(self) -> list[str]:
        """Commands of a shell block, without comments, with continued lines joined."""
        lines = re.sub(r"\\\n\s*", " ", self.text).splitlines()
        return [line for line in (re.sub(r"(^|\s)#.*", "", line).strip() for line in lines) if line]


def blocks_of_pages() -> Iterator[Block]:
    for page in PAGES:
        text = page.read_text()
        for found in FENCE.finditer(text):
            before = text[: found.start()].rstrip().rsplit("\n\n", 1)[-1]
            named = re.search(r"`([\w/]+\.(?:py|toml))`:$", before)
            yield Block(page.name, found[1], found[2], named[1] if named else "")


def prose(page: Path) -> str:
    return FENCE.sub("", page.read_text())


BLOCKS = list(blocks_of_pages())
COMMANDS = [(block.page, line) for block in BLOCKS if block.kind == "sh" for line in block.commands]
INLINE = [
    (page.name, code)
    for page in PAGES
    for code in CODE.findall(prose(page))
    if re.match(r"mujoco-sail \w", code)
]
SUITE = [line for _, line in [*COMMANDS, *INLINE] if line.startswith("mujoco-sail ")]
