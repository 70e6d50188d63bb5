"""YAML as plain values together with the line of each key, refusing what a suite must not contain.

Size, depth, and number of values are bounded before anything is built: aliases can make a short file endless.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from draftbench.harness.errors import SuiteError
from draftbench.harness.workloads.regular import read_text

Path_ = tuple[str | int, ...]
"""Keys and indices from the top of the document."""

MOST_BYTES, MOST_DEPTH, MOST_VALUES, MOST_DIGITS = 1_000_000, 40, 20_000, 40
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml's, where PyYAML was built with it
_MAPPING, _SEQUENCE, _TEXT = (f"tag:yaml.org,2002:{kind}" for kind in ("map", "seq", "str"))
_NUMBERS = {f"tag:yaml.org,2002:{kind}" for kind in ("int", "float")}
_SCALARS = {_TEXT, *_NUMBERS, *(f"tag:yaml.org,2002:{kind}" for kind in ("bool", "null"))}


def load_yaml(path: Path, what: str = "suite") -> tuple[dict[str, Any], dict[Path_, int]]:
    """Read a YAML mapping.

    Returns:
        The values, and the 1-based line on which each of them begins.

    Raises:
        SuiteError: no such file, broken YAML, more than a suite holds, tags that ask for objects, duplicate keys,
            numbers without end, no mapping at the top.
    """
    if not os.path.exists(path):
        raise SuiteError(f"{path}: there is no such file; `ls suites` shows those that come with the project.")
    text = read_text(path, MOST_BYTES, SuiteError)
    try:
        _check_events(text, path)
        node = yaml.compose(text, Loader=_LOADER)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise SuiteError(f"{path}:{line}: not YAML: {error.problem}.") from error
    except yaml.YAMLError as error:
        raise SuiteError(f"{path}: not YAML: {error}.") from error
    if not isinstance(node, yaml.MappingNode):
        raise SuiteError(f"{path}:1: a {what} is a mapping that begins with `version: 1`; found something else.")
    reader = _Reader(path)
    return reader.value(node, (), 1), reader.lines


def _check_events(text: str, path: Path) -> None:
    """Depth and size are looked at event by event, since nodes are built whole and recursively."""
    depth = 0
    for count, event in enumerate(yaml.parse(text, Loader=_LOADER)):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > MOST_DEPTH or count > 2 * MOST_VALUES:
            raise _too_much(path, event.start_mark.line + 1)


def _too_much(path: Path, line: int) -> SuiteError:
    return SuiteError(
        f"{path}:{line}: up to here there are more than {MOST_VALUES:,} values, aliases (`*name`) resolved, or more "
        f"than {MOST_DEPTH} lists and mappings in each other; write less."
    )


@dataclass
class _Reader:
    """Makes values of nodes, and notes lines."""

    path: Path
    lines: dict[Path_, int] = field(default_factory=lambda: {(): 1})
    num_values: int = 0
    constructor: Any = field(default_factory=yaml.constructor.SafeConstructor)

    def value(self, node: yaml.Node, at: Path_, depth: int) -> Any:
        """What a node stands for; a node that an alias names again is read again."""
        line = node.start_mark.line + 1
        self.num_values += 1
        if depth > MOST_DEPTH or self.num_values > MOST_VALUES:
            raise _too_much(self.path, line)
        self.lines.setdefault(at, line)
        if isinstance(node, yaml.MappingNode) and node.tag == _MAPPING:
            return self._mapping(node, at, depth)
        if isinstance(node, yaml.SequenceNode) and node.tag == _SEQUENCE:
            return [self.value(item, (*at, index), depth + 1) for index, item in enumerate(node.value)]
        if isinstance(node, yaml.ScalarNode) and node.tag in _SCALARS:
            return self._scalar(node, line)
        raise self._error(
            line, f"the tag {node.tag} is not allowed; it holds mappings, lists, texts, numbers, true, false"
        )

    def _mapping(self, node: yaml.MappingNode, at: Path_, depth: int) -> dict[str, Any]:
        content: dict[str, Any] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            if not isinstance(key_node, yaml.ScalarNode) or key_node.tag != _TEXT:
                found = key_node.value if isinstance(key_node, yaml.ScalarNode) else "a list or mapping"
                raise self._error(line, f"a key must be a word, found {found!r:.80}; put it in quotes")
            if key_node.value in content:
                raise self._error(line, f"{key_node.value:.80} is given twice; keep one of them")
            self.lines[(*at, key_node.value)] = line
            content[key_node.value] = self.value(value_node, (*at, key_node.value), depth + 1)
        return content

    def _scalar(self, node: yaml.ScalarNode, line: int) -> Any:
        if node.tag in _NUMBERS and len(node.value) > MOST_DIGITS:
            raise self._error(line, f"a number of {len(node.value):,} characters; allowed: {MOST_DIGITS}")
        try:
            value = self.constructor.construct_object(node)
        except ValueError as error:
            raise self._error(line, f"{node.value!r:.80} is no value of its kind: {error}") from error
        if isinstance(value, float) and not math.isfinite(value):
            raise self._error(line, f"{node.value!r:.80} is no finite number; give one, or leave the key out")
        return value

    def _error(self, line: int, text: str) -> SuiteError:
        return SuiteError(f"{self.path}:{line}: {text}.")
