"""What differs between two runs' manifests, the parts that can matter first and the rest counted."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence

from draftbench.harness.units import MISSING

SHOWN = 20
"""Lines of each part that are shown before the rest is counted."""
LONGEST = 160
"""Characters of a line."""
PARTS = (
    "suite.",
    "models.",
    "packages.",
    "draft_packages.",
    "git_commit",
    "host.",
    "workloads.",
    "engines.",
    "engine_starts",
)
"""Of a manifest, what can move a number, in the order in which it is asked for; what else there is comes folded."""
_ENGINE = re.compile(r"engines\.([^.]+)\.(.*)", re.DOTALL)
_ENTRY = re.compile(r"suite\.(arms|workloads|load)\[[^\]]+\]|workloads\.[^.:]+|(engines|training)\.[^.:]+")
_OF_ARM = re.compile(r"(?:engines\.|training\.|models\.draft )([^.:]+)")
_PART = re.compile(r"[^.:\[]+(\.[^.:\[]+)?")


def folded(differences: Sequence[str], shown: int = SHOWN) -> list[str]:
    """The differences that can matter, one a line and what is alike for several arms in one, then counts of the rest.

    Args:
        differences: lines `key: before → after`, as `manifest_differences` gives them.
        shown: lines of each part.
    """
    lines = _by_engine(_present_in_both(differences))
    told: list[str] = []
    for part in PARTS:
        own = [line for line in lines if line.startswith(part)]
        told += [_short(line) for line in own[:shown]]
        if len(own) > shown:
            told.append(f"{part.rstrip('.')}: {len(own) - shown} more")
    rest: defaultdict[str, int] = defaultdict(int)
    for line in lines:
        if not line.startswith(PARTS):
            found = _PART.match(line)
            rest[line if found is None else found[0]] += 1
    return told + [f"{part}: {count} {'facts differ' if count > 1 else 'fact differs'}" for part, count in rest.items()]


def _present_in_both(differences: Sequence[str]) -> list[str]:
    """An arm, a workload or a load point that only one run has is one line; its engine and its draft then go unsaid."""
    sides: defaultdict[str, set[str]] = defaultdict(set)
    for line in differences:
        if found := _ENTRY.match(line):
            values = line.partition(": ")[2].split(" → ", 1)
            sides[found[0]].add("B" if values[0] == MISSING else "A" if values[-1] == MISSING else "both")
    alone = {entry: next(iter(side)) for entry, side in sides.items() if len(side) == 1 and side != {"both"}}
    lines: dict[str, None] = {}
    for line in differences:
        entry = found[0] if (found := _ENTRY.match(line)) else ""
        arm = found[1] if (found := _OF_ARM.match(line)) else None
        if f"suite.arms[{arm}]" not in alone:
            lines[f"{entry}: only in run {alone[entry]}" if entry in alone else line] = None
    return list(lines)


def _by_engine(differences: Sequence[str]) -> list[str]:
    """What differs alike in several engines becomes one line."""
    arms: defaultdict[str, list[str]] = defaultdict(list)
    for line in differences:
        found = _ENGINE.fullmatch(line)
        arms[line if found is None else found[2]].append("" if found is None else found[1])
    return [
        line if own == [""] else f"engines.{own[0]}.{line}" if len(own) == 1 else f"engines.({', '.join(own)}).{line}"
        for line, own in arms.items()
    ]


def _short(line: str) -> str:
    return line if len(line) <= LONGEST else line[: LONGEST - 1] + "…"
