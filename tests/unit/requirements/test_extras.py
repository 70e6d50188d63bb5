"""What pyproject.toml declares, beside the locks and what is imported."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

PROJECT = tomllib.loads(Path("pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
MODULES = {"yaml": "pyyaml", "pynvml": "nvidia-ml-py", "math_verify": "math-verify", "cuda": "cuda-bindings"}
"""Packages that are imported under another name than their own."""
FOR_ENGINES = {"torch", "transformers", "sglang", "safetensors", "accelerate", "cuda-bindings", "sgl-kernel"}
FOR_CLUSTERS = {"ray"}


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def pins(lock: str) -> dict[str, str]:
    lines = (line.partition("#")[0].strip() for line in Path(f"requirements/{lock}.lock").read_text().splitlines())
    return {canonical(name): version for name, _, version in (line.partition("==") for line in lines if line)}


def requirements(lines: list[str]) -> dict[str, Requirement]:
    return {canonical(found.name): found for found in map(Requirement, lines)}


@pytest.mark.parametrize("lock", ["cpu", "cuda"])
@pytest.mark.parametrize("extra", ["", "cuda", "train"])
def test_the_locks_satisfy_what_is_declared(lock, extra):
    """Whoever installs a lock has what the package asks for; torch of the CPU's lock is the Makefile's."""
    pinned = {"torch": "2.13.0", **pins(lock)}
    for name, wanted in requirements(EXTRAS[extra] if extra else PROJECT["dependencies"]).items():
        assert wanted.specifier.contains(pinned[name]), f"{lock}.lock has {name} {pinned[name]}"


def test_ray_is_an_extra_with_a_lock_of_its_own():
    """Its version is the extra's, and nobody else's lock has it."""
    (wanted,) = requirements(EXTRAS["ray"]).values()
    assert wanted.specifier.contains(pins("ray")["ray"])
    assert "ray" not in pins("cpu").keys() | pins("cuda").keys() | requirements(PROJECT["dependencies"]).keys()


def test_the_cpus_extra_is_what_sglang_asks_for_in_the_locks_versions():
    """All of SGLang's list that the lock has and that is no dependency anyway; the other torch; nothing else."""
    pinned, own = pins("cpu"), requirements(PROJECT["dependencies"])
    asked = requirements([line for line in metadata.requires("sglang") or [] if "extra ==" not in line])
    expected = {name: pinned[name] for name in asked.keys() & pinned.keys() - own.keys()}
    expected |= {"torch": "2.13.0", "accelerate": pinned["accelerate"]}
    found = {name: str(wanted.specifier).removeprefix("==") for name, wanted in requirements(EXTRAS["cpu"]).items()}
    assert found == expected
    assert "torch==2.13.0" in Path("Makefile").read_text()


def test_what_is_imported_is_declared():
    """Every package that the harness, the drafts and the reports import, engines' own aside."""
    files = [path for room in ("harness", "drafts", "reports") for path in Path(room).rglob("*.py")]
    found = set()
    for path in (path for path in files if "shim" not in path.parts):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                found |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                found.add(node.module.split(".")[0])
    packages = {canonical(MODULES.get(name, name)) for name in found - set(sys.stdlib_module_names) - {"draftbench"}}
    assert packages - FOR_ENGINES - FOR_CLUSTERS <= requirements(PROJECT["dependencies"]).keys()
