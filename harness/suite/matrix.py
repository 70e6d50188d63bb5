"""`matrix:` in a suite's file: the suites that its points are, each laid over what the file says besides.

A pure function of the file's values. Each point keeps the lines of its own keys, so that a mistake is told where it
stands.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from draftbench.harness.errors import SuiteError
from draftbench.harness.suite.schema import Suite
from draftbench.harness.suite.strict_yaml import line_of, nearest, spelled
from draftbench.harness.suite.yaml_lines import Path_

MATRIX, TREE = "matrix", "tree"
MOST_POINTS = 100
TREE_FIELDS = ("num_steps", "topk", "num_draft_tokens")
NAMED = ("arms", "workloads")
"""Lists of things with names, over which a point lays by name."""
NOT_LAID = ("version", "name", MATRIX)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
EXAMPLE = "matrix: [{chain: {tree: {num_steps: 4, topk: 1, num_draft_tokens: 5}}, wide: {tree: {…}}}]"

Values = dict[str, Any]
Lines = dict[Path_, int]


@dataclass(frozen=True)
class Point:
    """One suite of a matrix, before it is checked.

    Attributes:
        name: of its place on each axis, `llama-chain`; empty where there is no matrix.
        values: of the suite, without a matrix.
        lines: of each of its keys in the file.
    """

    name: str
    values: Values
    lines: Lines


def points_of(values: Values, lines: Lines, path: Path) -> list[Point]:
    """Every combination of the axes' points, the first axis slowest; the suite itself where it has no matrix.

    Raises:
        SuiteError: the matrix is none, or lays something over what is not there; with file and line.
    """
    if MATRIX not in values:
        return [Point("", values, lines)]
    axes = _axes(values[MATRIX], lines, path)
    plain = {key: value for key, value in values.items() if key != MATRIX}
    found: list[Point] = []
    for chosen in product(*(_laid_by(axis, number) for number, axis in enumerate(axes))):
        point = Point("-".join(name for name, _, _ in chosen), plain, {**lines})
        for _, laid, at in chosen:
            point = _over(point, laid, at, lines, path)
        if any(point.name == other.name for other in found):
            raise _error(path, lines, (MATRIX,), f"two points of matrix are called {point.name}; name them otherwise.")
        name = f"{values.get('name')}-{point.name}"
        found.append(Point(point.name, {**point.values, "name": name}, point.lines))
    return found


def _laid_by(axis: Mapping[str, Any], number: int) -> Iterator[tuple[str, Any, Path_]]:
    """Name, what it lays over the suite, and where that stands, of each point of an axis."""
    for name, laid in axis.items():
        yield name, laid, (MATRIX, number, name)


def _axes(matrix: Any, lines: Lines, path: Path) -> list[dict[str, Any]]:
    """The axes, checked.

    Raises:
        SuiteError: they are none, or make too many suites.
    """
    if not isinstance(matrix, list) or not matrix or not all(isinstance(axis, dict) and axis for axis in matrix):
        raise _error(path, lines, (MATRIX,), f"matrix is a list of axes, each with its points by name: {EXAMPLE}.")
    count = 1
    for number, axis in enumerate(matrix):
        count *= len(axis)
        for name, laid, at in _laid_by(axis, number):
            if not isinstance(laid, dict):
                raise _error(path, lines, at, f"{spelled(at)} is {laid!r:.60}; give what it changes: {EXAMPLE}.")
            if not _NAME.fullmatch(name):
                text = "a point's name has letters and digits, and after the first dots, dashes and underscores."
                raise _error(path, lines, at, f"{spelled(at)}: {text}")
    if count > MOST_POINTS:
        raise _error(path, lines, (MATRIX,), f"matrix has {count:,} points; allowed: {MOST_POINTS}, take fewer.")
    return matrix


def _over(point: Point, laid: Values, at: Path_, lines: Lines, path: Path) -> Point:
    """The suite with what one point of an axis lays over it."""
    values, new = dict(point.values), dict(point.lines)
    for key, own in laid.items():
        here = (*at, key)
        if key == TREE:
            values["arms"] = _with_tree(values.get("arms"), own, here, lines, new, path)
        elif key in NOT_LAID or key not in Suite.model_fields:
            known = sorted({*Suite.model_fields, TREE} - set(NOT_LAID))
            raise _error(path, lines, here, f"{spelled(here)} is not known here; {nearest(key, known)}")
        elif key in NAMED and isinstance(own, dict):
            values[key] = _by_name(key, values.get(key), own, here, lines, new, path)
        elif isinstance(own, dict) and isinstance(values.get(key), dict):
            values[key] = {**values[key], **own}
            _moved(lines, new, here, (key,))
        else:
            values[key] = own
            _moved(lines, new, here, (key,))
    return Point(point.name, values, new)


def _with_tree(arms: Any, tree: Any, at: Path_, lines: Lines, new: Lines, path: Path) -> Any:
    """Every arm that has a tree with another one."""
    if not isinstance(tree, dict) or not tree or set(tree) - set(TREE_FIELDS):
        raise _error(path, lines, at, f"{spelled(at)} holds {', '.join(TREE_FIELDS)}, for every arm that has a tree.")
    found = []
    for index, arm in enumerate(arms if isinstance(arms, list) else []):
        has_one = isinstance(arm, dict) and any(name in arm for name in TREE_FIELDS)
        found.append({**arm, **tree} if has_one else arm)
        for name in tree if has_one else ():
            new["arms", index, name] = line_of((*at, name), lines)
    return found


def _by_name(key: str, things: Any, own: Values, at: Path_, lines: Lines, new: Lines, path: Path) -> Any:
    """Arms or workloads, with other fields for those that are named."""
    found = list(things) if isinstance(things, list) else []
    names = [str(thing.get("name")) if isinstance(thing, dict) else "" for thing in found]
    for name, fields in own.items():
        here = (*at, name)
        if name not in names:
            raise _error(path, lines, here, f"{spelled(here)}: {key} has none of that name; {nearest(name, names)}")
        if not isinstance(fields, dict):
            raise _error(path, lines, here, f"{spelled(here)} is {fields!r:.60}; give the fields that it changes.")
        index = names.index(name)
        found[index] = {**found[index], **fields}
        for field in fields:
            _moved(lines, new, (*here, field), (key, index, field))
    return found


def _moved(lines: Lines, new: Lines, at: Path_, to: Path_) -> None:
    """Lines of a part of the matrix, as those of the part of the suite that it takes the place of."""
    for place, line in lines.items():
        if place[: len(at)] == at:
            new[(*to, *place[len(at) :])] = line


def _error(path: Path, lines: Lines, at: Path_, text: str) -> SuiteError:
    return SuiteError(f"{path}:{line_of(at, lines)}: {text}")
