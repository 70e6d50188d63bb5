"""Fields of what a server says, each checked before it is used."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from draftbench.harness.load.limits import SHOWN, StreamError


def shown(value: object) -> str:
    """The beginning of what a server said, as a reason quotes it: one line, no control characters."""
    if isinstance(value, bytes):
        text = value[: 4 * SHOWN].decode(errors="replace")
    else:
        text = value if isinstance(value, str) else _spelled(value)
    text = text[: 2 * SHOWN]
    printable = "".join(char if char.isprintable() else " " for char in text)
    return " ".join(printable.split())[:SHOWN]


def _spelled(value: object) -> str:
    try:
        return repr(value)
    except RecursionError:
        return "something nested deeply"


def count_of(fields: Mapping[str, Any], name: str) -> int | None:
    """A count; None where the server gives none.

    Raises:
        StreamError: it is no whole number from 0 on.
    """
    value = fields.get(name)
    if value is None:
        return None
    if type(value) is float and value.is_integer():
        value = int(value)
    if type(value) is not int or not 0 <= value < 1 << 53:
        raise StreamError(f"{name} is {shown(value)}; it must be a count")
    return value


def number_of(fields: Mapping[str, Any], name: str) -> float | None:
    """A number from 0 on; None where the server gives none.

    Raises:
        StreamError: it is something else.
    """
    value = fields.get(name)
    if value is None:
        return None
    if type(value) not in (int, float) or not 0 <= value < math.inf:
        raise StreamError(f"{name} is {shown(value)}; it must be a number from 0 on")
    return float(value)


def counts_of(fields: Mapping[str, Any], name: str) -> tuple[int, ...] | None:
    """A list of counts; None where the server gives none.

    Raises:
        StreamError: it is something else.
    """
    value = fields.get(name)
    if value is None:
        return None
    if type(value) is not list:
        raise StreamError(f"{name} is {shown(value)}; it must be a list of counts")
    return tuple(count_of({name: item}, name) or 0 for item in value)


def object_of(fields: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """An object, empty where the server gives none.

    Raises:
        StreamError: it is something else.
    """
    value = fields.get(name)
    if value is None:
        return {}
    if type(value) is not dict:
        raise StreamError(f"{name} is {shown(value)}; it must be an object")
    return value
