"""One word, one thing: no two classes of the packages share a name, and no two modules."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path

SOURCES = sorted(path for room in ("harness", "drafts", "reports") for path in Path(room).rglob("*.py"))
SHARED_CLASSES: Mapping[str, str] = {}
"""Class names that several modules may have, and why."""

ROLES = {"__init__", "spec", "model", "loss", "recipe", "engine", "proposer"}
"""Modules that every architecture's folder may have."""


def classes(path: Path) -> Iterable[str]:
    """Classes at a module's top, those under a condition too."""
    found = list(ast.parse(path.read_text()).body)
    while found:
        node = found.pop()
        if isinstance(node, ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.If | ast.Try):
            found += [*node.body, *node.orelse, *getattr(node, "finalbody", [])]


def shared(found: Iterable[tuple[str, Path]], allowed: Mapping[str, str]) -> dict[str, list[str]]:
    """Names that stand for more than one thing, and where."""
    places = defaultdict(list)
    for name, path in found:
        places[name].append(str(path))
    return {name: paths for name, paths in places.items() if len(paths) > 1 and name not in allowed}


def test_classes_have_names_of_their_own():
    """Whoever reads a name knows which of all classes is meant."""
    found = shared(((name, path) for path in SOURCES for name in classes(path)), SHARED_CLASSES)
    assert not found, "give the less central one a name that says what it is"


def module_names(paths: Iterable[Path]) -> Iterable[tuple[str, Path]]:
    """Modules' names but for roles, and for commands, which are called as what they do."""
    return ((path.stem, path) for path in paths if path.stem not in ROLES and path.parent.name != "commands")


def test_modules_have_names_of_their_own():
    """Whoever reads a file's name knows which of all files is meant."""
    assert not shared(module_names(SOURCES), {}), "give the less central one a name that says what is in it"


def test_two_modules_of_one_name_are_found():
    """In whatever rooms they are; a command and two architectures' parts are none of them."""
    paths = [Path(text) for text in ("a/plan.py", "b/plan.py", "commands/a.py", "c/a.py", "x/spec.py", "y/spec.py")]
    assert shared(module_names(paths), {}) == {"plan": ["a/plan.py", "b/plan.py"]}


def test_a_shared_name_is_found(tmp_path: Path):
    """Two modules with a class of one name, one of them under a condition; a name that is allowed is none of them."""
    (tmp_path / "one.py").write_text("class Round: ...\nclass Own: ...\nclass Role: ...\n")
    (tmp_path / "two.py").write_text("import sys\nif sys.platform:\n    class Round: ...\nclass Role: ...\n")
    found = [(name, path) for path in sorted(tmp_path.iterdir()) for name in classes(path)]
    assert shared(found, {"Role": "a part"}) == {"Round": [str(tmp_path / "one.py"), str(tmp_path / "two.py")]}
