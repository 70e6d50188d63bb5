"""Who may import whom, as docs say it, read off the source."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

HEAVY = {"torch", "transformers", "sglang"}
SOURCES = sorted(path for folder in ("harness", "drafts", "reports") for path in Path(folder).rglob("*.py"))
LEAVES = {"harness/errors.py", "harness/units.py", "harness/records.py"}
TORCH_ALLOWED = ("harness/runtime/", "drafts/training/")


def imports(path: Path) -> Iterator[str]:
    """Every module that a file imports, inside functions too."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


def top(module: str) -> str:
    return module.split(".")[0]


@pytest.mark.parametrize("path", SOURCES, ids=str)
def test_only_allowed_imports(path: Path):
    """SGLang only in harness/runtime; torch only in the engine's side, models, losses and training; nobody bench."""
    name, found = str(path), set(imports(path))
    tops = {top(module) for module in found}
    assert "bench" not in tops
    if not name.startswith("harness/runtime/"):
        assert "sglang" not in tops
    may_torch = name.startswith(TORCH_ALLOWED) or (name.startswith("drafts/") and path.stem in ("model", "loss"))
    if not may_torch:
        assert not tops & HEAVY
    if name in LEAVES:
        assert tops <= set(sys.stdlib_module_names) | {"pydantic", "yaml", "harness"}
    if name.startswith("drafts/"):
        banned = ("harness.runtime", "harness.load", "harness.metrics", "reports")
        assert not [module for module in found if module.startswith(banned)]
    if name.startswith("harness/metrics/"):
        assert not [m for m in found if m.startswith("harness.") and not m.startswith(
            ("harness.metrics", "harness.records", "harness.units", "harness.errors"))]  # fmt: skip


def test_the_harness_process_imports_nothing_heavy():
    """Everything that bench.py imports to run a suite leaves torch, transformers and sglang out."""
    code = (
        "import sys, bench, harness.execute, harness.runtime.arms, reports.files, reports.terminal, harness.doctor;"
        "print(sorted({'torch', 'transformers', 'sglang'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
