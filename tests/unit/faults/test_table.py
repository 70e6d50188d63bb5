"""docs/reliability.md names sixty faults or more, and a test that there is for each."""

from __future__ import annotations

import ast
import re
from pathlib import Path

TABLE = Path("docs/reliability.md")
ROW = re.compile(r"^\| (\d+) \| .+ \| `([\w./]+\.py)` `(\w+)` \|$", re.MULTILINE)


def test_each_fault_of_the_table_has_its_test() -> None:
    """By its file and name; a test that is renamed is renamed there."""
    rows = ROW.findall(TABLE.read_text())
    assert [int(number) for number, _, _ in rows] == list(range(1, len(rows) + 1))
    assert len(rows) >= 60
    for _, file, name in rows:
        tree = ast.parse((Path("tests/unit") / file).read_text())
        assert name in {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}, (file, name)
