"""A terminal that shows what others wrote as text: no escape sequence of theirs, no :emoji:."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.text import Text

from draftbench.harness.texts import printable


class Terminal(Console):
    """rich's console, which every text passes on its way to the screen."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**{"emoji": False, **settings})

    def on_broken_pipe(self) -> None:
        """Who hears of it is bench.py."""
        raise

    def render_str(self, text: str, **settings: Any) -> Text:
        """A text as it is printed, titles and cells of tables too."""
        return super().render_str(printable(text), **settings)
