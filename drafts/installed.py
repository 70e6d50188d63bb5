"""Objects that packages name: under entry-point groups, or as "package.module:name"."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.metadata import EntryPoint, entry_points
from typing import Any, TypeVar

Kind = TypeVar("Kind")


def named(value: str) -> Any:
    """The object that "package.module:name" names."""
    return EntryPoint("", value, "").load()


def under(group: str) -> list[tuple[str, str]]:
    """Name and "package.module:name" of everything that is installed under an entry-point group."""
    return [(point.name, point.value) for point in entry_points(group=group)]


def loaded(points: Iterable[tuple[str, str]], kind: type[Kind]) -> tuple[dict[str, Kind], dict[str, str]]:
    """The objects by name, and why others could not be loaded: one broken package leaves the rest be."""
    found: dict[str, Kind] = {}
    broken: dict[str, str] = {}
    for name, value in points:
        try:
            thing = named(value)
        except Exception as error:  # a package's own code may raise anything
            broken[name] = f"{value} cannot be loaded: {type(error).__name__}: {error}"
            continue
        if isinstance(thing, kind):
            found[name] = thing
        else:
            broken[name] = f"{value} is a {type(thing).__name__}, not a {kind.__name__}"
    return found, broken
