"""Who may import whom, as docs say it, read off the source."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

HEAVY = {"torch", "transformers", "sglang"}
ROOMS = ("harness", "drafts", "reports")
SOURCES = sorted(path for folder in ROOMS for path in Path(folder).rglob("*.py"))
LEAVES = {
    "harness/errors.py",
    "harness/units.py",
    "harness/records.py",
    "harness/update_records.py",
    "harness/telemetry/window_records.py",
}
ENGINE_MODULES = ("engine", "tree")
"""Of an architecture's folder: what runs in the engine's process."""
ARCHITECTURES = {path.parent for path in SOURCES if path.name == "spec.py"}
NAMES_OF_ARCHITECTURES = tuple(f"drafts.{folder.name}." for folder in ARCHITECTURES)


def imports(path: Path) -> Iterator[str]:
    """Every module that a file imports, inside functions too."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


def top(module: str) -> str:
    return module.split(".")[0]


def in_engine(path: Path) -> bool:
    """Whether a module runs in the engine's process."""
    return str(path).startswith("harness/runtime/") or (path.parts[0] == "drafts" and path.stem in ENGINE_MODULES)


@pytest.mark.parametrize("path", SOURCES, ids=str)
def test_only_allowed_imports(path: Path):
    """SGLang only on the engine's side; torch there and in models, losses and training; nobody bench."""
    name, found = str(path), set(imports(path))
    if name != "harness/cluster/on_ray.py":
        assert "ray" not in {top(module) for module in found}
    tops = {top(module) for module in found}
    own = {module.removeprefix("draftbench.") for module in found if top(module) == "draftbench"}
    assert "bench" not in tops
    assert not tops & set(ROOMS), "a package has one name: draftbench." + path.parts[0]
    if not in_engine(path):
        assert "sglang" not in tops
    is_model = path.parts[0] == "drafts" and path.stem in ("model", "loss", "recipe")
    if not (in_engine(path) or is_model or name.startswith("drafts/training/")):
        assert not tops & HEAVY
    if name in LEAVES:
        assert tops <= set(sys.stdlib_module_names) | {"pydantic", "yaml", "draftbench"}
    if not name.startswith("harness/commands/"):
        assert not [module for module in own if module.startswith("harness.commands")]
    if path.parts[0] == "drafts":
        banned = ("harness.load", "harness.metrics", "reports", *(() if in_engine(path) else ("harness.runtime",)))
        assert not [module for module in own if module.startswith(banned)]
    if not in_engine(path) and path.parent not in ARCHITECTURES:
        assert not [module for module in own if module.startswith(NAMES_OF_ARCHITECTURES)], "ask its spec"
    if name.startswith("harness/metrics/"):
        allowed = (
            "harness.metrics", "harness.records", "harness.update_records", "harness.telemetry.window_records",
            "harness.units", "harness.errors", "harness.suite", "harness.engine",
        )  # fmt: skip
        assert not [module for module in own if not module.startswith(allowed)]


def test_the_harness_process_imports_nothing_heavy():
    """Everything that a run's command imports leaves torch, transformers, sglang and Ray out."""
    modules = [
        "bench",
        "harness.commands.run",
        "harness.commands.report",
        "harness.run.live",
        "harness.cluster.on_ray",
        "harness.runtime.fleet",
        "harness.host.doctor",
        "reports.files",
        "reports.terminal_tables",
    ]
    code = (
        f"import sys, {', '.join('draftbench.' + module for module in modules)};"
        "print(sorted({'torch', 'transformers', 'sglang', 'ray'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_package_holds_links_alone() -> None:
    """One bench.py, one harness: a tool that writes through a link leaves a copy, which then goes its own way."""
    own = {"__init__.py", "__main__.py", "py.typed", "__pycache__"}
    linked = {path.name: path for path in Path("draftbench").iterdir() if path.name not in own}
    assert set(linked) == {"bench.py", "drafts", "harness", "reports", "suites"}
    assert {name: str(path.readlink()) for name, path in linked.items()} == {name: f"../{name}" for name in linked}
