"""Texts that others chose (servers, models, files), made harmless to look at."""

from __future__ import annotations

import unicodedata

UNSEEN = {"Cc", "Cf", "Cs", "Co", "Zl", "Zp"}
"""Categories of characters that steer: controls and escapes, marks of direction, ends of line, halves of pairs."""


def printable(text: str, kept: str = "\n\t") -> str:
    """The text with every character that shows nothing, but moves, hides or colours others, as its escape: `\\x1b`."""
    if text.isprintable():
        return text
    return "".join(
        char if char in kept or unicodedata.category(char) not in UNSEEN else ascii(char)[1:-1] for char in text
    )
