"""The installed recipes: those that architectures' specs name, and those under an entry-point group."""

from __future__ import annotations

from functools import cache

from draftbench.drafts.api import discover
from draftbench.drafts.installed import loaded, under
from draftbench.drafts.training.recipe import Recipe

ENTRY_POINTS = "draftbench.recipes"
"""Entry-point group of recipes for architectures of another package: name = "package.module:NAME"."""


@cache
def installed() -> tuple[dict[str, Recipe], dict[str, str]]:
    """All recipes that can be used, and why others cannot."""
    named = [point for spec in discover().values() for point in spec.recipes.items()]
    return loaded([*named, *under(ENTRY_POINTS)], Recipe)


def recipes() -> dict[str, Recipe]:
    """All of them by name, but for those that `broken_recipes` names."""
    return dict(installed()[0])


def broken_recipes() -> dict[str, str]:
    """Installed recipes that cannot be used, and why."""
    return dict(installed()[1])
