"""YAML as plain values together with the line of each key, refusing what a suite must not contain."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from draftbench.harness.errors import SuiteError

Path_ = tuple[str | int, ...]
"""Keys and indices from the top of the document."""

_SCALARS = {f"tag:yaml.org,2002:{kind}" for kind in ("str", "int", "float", "bool", "null")}


def load_yaml(path: Path, what: str = "suite") -> tuple[dict[str, Any], dict[Path_, int]]:
    """Read a YAML mapping.

    Returns:
        The values, and the 1-based line on which each of them begins.

    Raises:
        SuiteError: no such file, broken YAML, tags that ask for objects, duplicate keys, no mapping at the top.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise SuiteError(
            f"{path}: there is no such file; `ls suites` shows those that come with the project."
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise SuiteError(f"{path}: cannot be read: {error}.") from error
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise SuiteError(f"{path}:{line}: not YAML: {error.problem}.") from error
    except yaml.YAMLError as error:
        raise SuiteError(f"{path}: not YAML: {error}.") from error
    if not isinstance(node, yaml.MappingNode):
        raise SuiteError(f"{path}:1: a {what} is a mapping that begins with `version: 1`; found something else.")
    lines: dict[Path_, int] = {(): 1}
    return _value(node, (), lines, path), lines


def _value(node: yaml.Node, at: Path_, lines: dict[Path_, int], path: Path) -> Any:
    line = node.start_mark.line + 1
    lines.setdefault(at, line)
    if isinstance(node, yaml.MappingNode) and node.tag == "tag:yaml.org,2002:map":
        content: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key_line = key_node.start_mark.line + 1
            if not isinstance(key_node, yaml.ScalarNode) or key_node.tag != "tag:yaml.org,2002:str":
                raise SuiteError(
                    f"{path}:{key_line}: a key must be a word, found {key_node.value!r}; put it in quotes."
                )
            if key_node.value in content:
                raise SuiteError(f"{path}:{key_line}: {key_node.value} is given twice; keep one of them.")
            lines[(*at, key_node.value)] = key_line
            content[key_node.value] = _value(value_node, (*at, key_node.value), lines, path)
        return content
    if isinstance(node, yaml.SequenceNode) and node.tag == "tag:yaml.org,2002:seq":
        return [_value(item, (*at, index), lines, path) for index, item in enumerate(node.value)]
    if isinstance(node, yaml.ScalarNode) and node.tag in _SCALARS:
        loader = yaml.SafeLoader("")
        try:
            return loader.construct_object(node)
        except ValueError as error:
            raise SuiteError(f"{path}:{line}: {node.value!r} is no value of its kind: {error}.") from error
    raise SuiteError(
        f"{path}:{line}: the tag {node.tag} is not allowed; it holds mappings, lists, texts, numbers, true, false."
    )
