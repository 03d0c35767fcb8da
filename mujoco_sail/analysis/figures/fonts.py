"""Fonts for letters that the figures' own font does not have."""

from collections.abc import Iterable

from matplotlib import font_manager
from matplotlib.figure import Figure
from matplotlib.text import Text

OWN = "DejaVu Sans"  # comes with Matplotlib: the same everywhere
BOXES = "Last Resort High-Efficiency"  # comes with it too, and has a box for every letter


def lacking(figure: Figure) -> set[str]:
    """Letters of a figure's texts that `OWN` does not have."""
    texts = [text.get_text() for text in figure.findobj(Text)]
    letters = {letter for text in texts for letter in text if not letter.isspace()}
    return letters - _letters(OWN)


def families(letters: Iterable[str]) -> tuple[list[str], set[str]]:
    """Fonts of this system that have letters.

    Args:
        letters: See `lacking`.

    Returns:
        Names of fonts, the one that has most of them first, and the letters that none has.
    """
    left = set(letters)
    has = {name: _letters(name) & left for name in _names()}
    chosen = []
    while left and (name := max(has, key=lambda name: len(has[name] & left))) and has[name] & left:
        chosen.append(name)
        left -= has[name]
    return chosen, left


def _names() -> list[str]:
    """Names of all fonts, those too that were installed since Matplotlib made its list."""
    manager = font_manager.fontManager
    known = {font.fname for font in manager.ttflist}
    for file in font_manager.findSystemFonts():
        if file not in known:
            try:
                manager.addfont(file)
            except (OSError, RuntimeError, ValueError):
                continue  # no font that Matplotlib reads
    return sorted({font.name for font in manager.ttflist} - {BOXES})


def _letters(name: str) -> set[str]:
    """Letters that a font has."""
    try:
        font = font_manager.get_font(font_manager.findfont(name, fallback_to_default=False))
    except (OSError, RuntimeError, ValueError):
        return set()
    return {chr(code) for code in font.get_charmap()}
