"""No module above 300 lines without a reason at its top."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

MOST_LINES = 300
REASON = re.compile(r"\b(one|this) (module|file)\b", re.IGNORECASE)
"""As in "One module, since all of them share these." """
SOURCES = [
    Path("bench.py"),
    *(path for room in ("harness", "drafts", "reports") for path in sorted(Path(room).rglob("*.py"))),
]


def too_long(path: Path) -> bool:
    """Whether a module is long and does not say why it stays one."""
    text = path.read_text()
    return len(text.splitlines()) > MOST_LINES and not REASON.search(ast.get_docstring(ast.parse(text)) or "")


def test_long_modules_say_why_they_are_one():
    """Split it, or let its docstring say why not."""
    found = [str(path) for path in SOURCES if too_long(path)]
    assert not found, f"above {MOST_LINES} lines: split it, or let its docstring say why it is one module"


@pytest.mark.parametrize(
    ("lines", "docstring", "found"),
    [(300, "Something.", False), (301, "Something.", True), (301, "Something. One module, since it is.", False)],
)
def test_a_long_module_without_a_reason_is_found(tmp_path: Path, lines: int, docstring: str, found: bool):
    """300 lines are allowed."""
    path = tmp_path / "module.py"
    path.write_text(f'"""{docstring}"""\n' + "pass\n" * (lines - 1))
    assert too_long(path) is found
