"""Units as types, and the one place that turns numbers into text."""

from __future__ import annotations

import argparse
from typing import Protocol

NS_PER_S = 1_000_000_000
MISSING = "–"
"""What a table shows where there is no number; never 0."""


class TreeSizes(Protocol):
    """Whatever has a tree's sizes: an arm, a row, a tree; None where there is none."""

    @property
    def num_steps(self) -> int | None: ...

    @property
    def topk(self) -> int | None: ...

    @property
    def num_draft_tokens(self) -> int | None: ...


def tree_text(tree: TreeSizes) -> str:
    """`5 × 4, 16`: the tree's depth, width and verified nodes."""
    return MISSING if tree.num_steps is None else f"{tree.num_steps} × {tree.topk}, {tree.num_draft_tokens}"


def seconds(duration_ns: int) -> float:
    """Nanoseconds as seconds."""
    return duration_ns / NS_PER_S


def fixed(value: float | None, digits: int, suffix: str = "") -> str:
    """A number with a fixed count of decimals, or the mark for a missing one."""
    return MISSING if value is None else f"{value:.{digits}f}{suffix}"


def duration(value_s: float) -> str:
    """A duration for people: `42 s`, `3 min 05 s`, `1 h 02 min`."""
    whole = round(value_s)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min"


def percentage(text: str) -> float:
    """`5%` as 0.05, of a command line."""
    try:
        share = float(text.removesuffix("%")) / 100
    except ValueError:
        share = -1.0
    if not text.endswith("%") or not 0 <= share < 1:
        raise argparse.ArgumentTypeError(f"{text!r}; allowed: a percentage from 0% to 99%, for example 5%")
    return share
