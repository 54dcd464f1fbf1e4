"""Text in figures: wrapped by its true width, and without characters that the font can't draw."""

import unicodedata
from functools import cache, lru_cache

from matplotlib.font_manager import FontProperties, findfont, get_font
from matplotlib.ft2font import FT2Font

MISSING = "□"
# Widths are measured at this size and scaled: glyph widths grow with the size of the font.
_MEASURED_SIZE = 100.0


def drawable(text: str) -> str:
    """The text on one line, each character that DejaVu Sans can't draw (an emoji, say) replaced by ``□``.

    Characters that draw nothing (joiners, variation selectors, control characters) are left out.
    """
    characters = []
    for character in " ".join(text.split()):
        if unicodedata.category(character) in {"Cc", "Cf", "Mn", "Cs"}:
            continue
        characters.append(character if _has_glyph(character) else MISSING)
    return "".join(characters)


def wrap(text: str, width: float, size: float, weight: str = "normal", style: str = "normal") -> list[str]:
    """Break text into lines by the width of its words; a word wider than a line is broken inside.

    Args:
        text: Drawable text on one line.
        width: Width of a line, in points.
        size: Size of the font, in points.
        weight: ``normal`` or ``bold``.
        style: ``normal`` or ``italic``.

    Returns:
        The lines, at least one (empty for empty text).
    """
    lines = [""]
    for word in text.split():
        for piece in _pieces(word, width, size, weight, style):
            joined = f"{lines[-1]} {piece}".strip()
            if lines[-1] and text_width(joined, size, weight, style) > width:
                lines.append(piece)
            else:
                lines[-1] = joined
    return lines


def shorten(lines: list[str], most: int) -> list[str]:
    """The first lines, the last one ended by an ellipsis where something was left out."""
    if len(lines) <= most:
        return lines
    return [*lines[: most - 1], lines[most - 1].rstrip(" .,;") + " …"]


@lru_cache(maxsize=8192)
def text_width(text: str, size: float, weight: str = "normal", style: str = "normal") -> float:
    """Width of one line of drawable text in DejaVu Sans, in points."""
    font = _font(weight, style)
    font.set_size(_MEASURED_SIZE, 72)
    font.set_text(text)
    return font.get_width_height()[0] / 64 * size / _MEASURED_SIZE


def _pieces(word: str, width: float, size: float, weight: str, style: str) -> list[str]:
    pieces = [""]
    for character in word:
        if pieces[-1] and text_width(pieces[-1] + character, size, weight, style) > width:
            pieces.append("")
        pieces[-1] += character
    return pieces


def _font(weight: str, style: str) -> FT2Font:
    return get_font(findfont(FontProperties(family="DejaVu Sans", weight=weight, style=style)))


@cache
def _has_glyph(character: str) -> bool:
    fonts = (_font(weight, style) for weight, style in (("normal", "normal"), ("bold", "normal"), ("normal", "italic")))
    return all(font.get_char_index(ord(character)) for font in fonts)
