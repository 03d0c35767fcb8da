"""Build hooks of the site: files from outside docs/, and an API reference page per subpackage."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mkdocs.structure.files import File, Files

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "mujoco_sail"
# Pages of the repository's root by their names there; other files that they link to.
ROOT_PAGES = {
    "README.md": "overview.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
}
ROOT_FILES = ("CITATION.cff", "LICENSE")


def api_pages() -> dict[str, str]:
    """Markdown of each page of the API reference by dotted name: the package, its subpackages."""
    modules = sorted(path.stem for path in PACKAGE.glob("*.py") if path.stem[:1] != "_")
    root = ["::: mujoco_sail\n    options: {show_submodules: false}\n"]
    for name in modules:
        if name != "cli":
            root.append(f"::: mujoco_sail.{name}\n    options: {{heading_level: 2}}\n")
    pages = {"mujoco_sail": "\n".join(root)}
    for path in sorted(PACKAGE.glob("*/__init__.py")):
        name = f"mujoco_sail.{path.parent.name}"
        pages[name] = f"::: {name}\n"
    # In the search, guides come first.
    return {name: f"---\nsearch: {{boost: 0.5}}\n---\n\n{text}" for name, text in pages.items()}


def on_config(config: MkDocsConfig) -> None:
    """Put the pages of the API reference at the end of the section `Reference`."""
    (reference,) = (entry["Reference"] for entry in config.nav or [] if "Reference" in entry)
    reference.append({"Python API": [{name: f"api/{name}.md"} for name in api_pages()]})


def on_files(files: Files, config: MkDocsConfig) -> None:
    """Add the API reference, the figures of plots/ and the pages of the repository's root."""
    for name, text in api_pages().items():
        files.append(File.generated(config, f"api/{name}.md", content=text))
    for figure in sorted((ROOT / "plots").rglob("*.png")):
        name = figure.relative_to(ROOT).as_posix()
        files.append(File.generated(config, name, abs_src_path=str(figure)))
    for name, page in ROOT_PAGES.items():
        text = (ROOT / name).read_text("utf-8")
        files.append(File.generated(config, page, content=text))
    for name in ROOT_FILES:
        files.append(File.generated(config, name, abs_src_path=str(ROOT / name)))


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Make links that are relative to the repository relative to the site."""
    text = re.sub(r"\]\((?:docs|\.\.)/", "](", markdown)
    for name, page in ROOT_PAGES.items():
        text = text.replace(f"]({name}", f"]({page}")
    return text
