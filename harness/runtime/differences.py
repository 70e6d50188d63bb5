"""Where values of several arms differ: the parts of nested ones, and of long ones the stretch."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping

LONGEST, CONTEXT = 60, 16
"""Characters of a value that are shown, and those shown before the first that differs."""


def differences(name: str, values: Mapping[str, object]) -> Iterator[str]:
    """Say for each part of a value that is not alike who has what; nothing where all are.

    Args:
        name: what the value is called; parts of nested ones go on from it: `cuda_graph_config.decode.bs`.
        values: by arm, as receipts hold them: configurations and lists are written as Python would build them.
    """
    parts = {arm: _parts(value) for arm, value in values.items()}
    for path in dict.fromkeys(path for found in parts.values() for path in found):
        arms: dict[str, list[str]] = {}
        for arm, found in parts.items():
            arms.setdefault(found.get(path, "nothing"), []).append(arm)
        if len(arms) > 1:
            shown = zip(_shortened(list(arms)), arms.values(), strict=True)
            yield f"{name}{path} differs: " + ", ".join(f"{text} ({', '.join(having)})" for text, having in shown)


def _parts(value: object) -> dict[str, str]:
    """A value's innermost parts by their path, "" for a plain one."""
    try:
        tree = ast.parse(value, mode="eval").body if isinstance(value, str) else None
    except (SyntaxError, ValueError):  # text that is no Python, or holds a null
        tree = None
    if isinstance(tree, ast.Call | ast.Dict):
        return dict(_leaves(tree, ""))
    # A list was written as text by the receipt; without its quotes it reads as itself.
    return {"": ast.unparse(tree) if isinstance(tree, ast.List | ast.Tuple) else repr(value)}


def _leaves(node: ast.expr, path: str) -> Iterator[tuple[str, str]]:
    if isinstance(node, ast.Call) and not node.args:
        for word in node.keywords:
            yield from _leaves(word.value, f"{path}.{word.arg}")
    elif isinstance(node, ast.Dict) and all(isinstance(key, ast.Constant) for key in node.keys):
        for key, value in zip(node.keys, node.values, strict=True):
            yield from _leaves(value, f"{path}[{ast.unparse(key)}]")  # type: ignore[arg-type]  # None is no Constant
    else:
        yield path, ast.unparse(node)


def _shortened(texts: list[str]) -> list[str]:
    """The same texts; where one is long, all from shortly before the place where they part, cut."""
    if all(len(text) <= LONGEST for text in texts):
        return texts
    first, last = min(texts), max(texts)
    alike = next((at for at, (one, other) in enumerate(zip(first, last, strict=False)) if one != other), len(first))
    start = 0 if alike <= CONTEXT else alike - CONTEXT
    shown = (text[start : start + LONGEST] for text in texts)
    ends = (len(text) <= start + LONGEST for text in texts)
    return [("…" if start else "") + text + ("" if end else "…") for text, end in zip(shown, ends, strict=True)]
