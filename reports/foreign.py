"""Strings that others chose (names, errors, paths, whatever an engine's log said) made harmless for a document."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

from draftbench.harness.metrics.row import Row

_MARKDOWN = re.compile(r"([\\`*\[\]<>|~&]|(?<![^\W_])_|_(?![^\W_]))")


def markdown_text(text: str) -> str:
    """Text that markdown shows as it is: on one line, without markup, links, HTML, or the end of a table's cell."""
    return _MARKDOWN.sub(r"\\\1", " ".join(text.split()))


def with_strings(value: Any, change: Callable[[str], str]) -> Any:
    """The same nested lists and objects with every string in them changed, keys too."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, dict):
        return {with_strings(key, change): with_strings(item, change) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [with_strings(item, change) for item in value]
    return value


def rows_with_strings(rows: Sequence[Row], change: Callable[[str], str]) -> tuple[Row, ...]:
    """The same rows with every string in them changed."""
    return tuple(row.model_copy(update=with_strings(dict(row), change)) for row in rows)
