"""Strings that others chose (names, errors, paths, whatever an engine's log said) made harmless for a document."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import fields, is_dataclass, replace
from typing import Any, TypeVar

from pydantic import BaseModel

from draftbench.harness.metrics.gates.gate import Gate
from draftbench.harness.texts import printable

Value = TypeVar("Value")
_MARKDOWN = re.compile(r"([\\`*\[\]<>|~&]|(?<![^\W_])_|_(?![^\W_]))")


def markdown_text(text: str) -> str:
    """Text that markdown shows as it is: on one line, without markup, links, HTML, or the end of a table's cell."""
    return _MARKDOWN.sub(r"\\\1", " ".join(printable(text, kept="\n\t\r\f\v").split()))


def with_strings(value: Value, change: Callable[[str], str]) -> Value:
    """The same value with every string in it changed, however deep, keys of objects too; gates are ours and stay."""
    found: Value = _changed(value, change)
    return found


def _changed(value: Any, change: Callable[[str], str]) -> Any:
    if isinstance(value, str):
        return change(value)
    if isinstance(value, BaseModel):
        given = {name: _changed(getattr(value, name), change) for name in value.model_fields_set}
        return value.model_copy(update=given)
    if is_dataclass(value) and not isinstance(value, type | Gate):
        return replace(value, **{each.name: _changed(getattr(value, each.name), change) for each in fields(value)})
    if isinstance(value, dict):
        return {_changed(key, change): _changed(item, change) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_changed(item, change) for item in value)
    return value
