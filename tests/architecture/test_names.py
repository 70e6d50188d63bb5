"""One word, one thing: no two classes of the packages share a name."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path

SOURCES = sorted(path for room in ("harness", "drafts", "reports") for path in Path(room).rglob("*.py"))
SHARED_CLASSES: Mapping[str, str] = {}
"""Class names that several modules may have, and why."""


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


def test_a_shared_name_is_found(tmp_path: Path):
    """Two modules with a class of one name, one of them under a condition; a name that is allowed is none of them."""
    (tmp_path / "one.py").write_text("class Round: ...\nclass Own: ...\nclass Role: ...\n")
    (tmp_path / "two.py").write_text("import sys\nif sys.platform:\n    class Round: ...\nclass Role: ...\n")
    found = [(name, path) for path in sorted(tmp_path.iterdir()) for name in classes(path)]
    assert shared(found, {"Role": "a part"}) == {"Round": [str(tmp_path / "one.py"), str(tmp_path / "two.py")]}
