"""Which packages of others a run's drafts come from: versions, and hashes of their code."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec
from pathlib import Path

from draftbench.drafts.api import ENTRY_POINTS, DraftSpec
from draftbench.harness.errors import RecordError

OWN = "draftbench"
SGLANG_PLUGINS = "sglang.srt.plugins"
"""Every engine loads what is installed there, whatever the arm."""
Packages = Mapping[str, Mapping[str, str]]
"""By architecture, or SGLang plugin: package, version, entry_point, sha256."""


def draft_packages(architectures: Iterable[str], known: Mapping[str, DraftSpec]) -> dict[str, dict[str, str]]:
    """Of the architectures that others wrote, and of SGLang plugins that others installed, where they come from."""
    wanted = set(architectures)
    found = {}
    for point in entry_points(group=ENTRY_POINTS):
        if point.name in wanted and point.name in known:
            modules = {_top(value) for value in (point.value, *_named_by(known[point.name]))} - {OWN}
            if modules:
                found[point.name] = _facts(point, modules)
    for point in entry_points(group=SGLANG_PLUGINS):
        if _top(point.value) != OWN:
            found[f"SGLang plugin {point.name}"] = _facts(point, {_top(point.value)})
    return dict(sorted(found.items()))


def check_unchanged(recorded: Packages, now: Packages) -> None:
    """Find out before a run goes on whether its drafts' packages are those that its cells were measured with.

    Raises:
        RecordError: one is not.
    """
    for name in sorted({*recorded, *now}):
        before, after = recorded.get(name), now.get(name)
        if before != after:
            raise RecordError(
                f"{name}: the run was measured with {_told(before)}, but there is {_told(after)}; put that one back, "
                "or start a new run."
            )


def _named_by(spec: DraftSpec) -> Iterator[str]:
    """Modules of a specification that engines or training import."""
    yield from (value for value in (spec.proposer_factory, spec.engine_module, spec.model) if value is not None)
    yield from spec.recipes.values()


def _top(value: str) -> str:
    return value.partition(":")[0].partition(".")[0]


def _facts(point: EntryPoint, modules: Iterable[str]) -> dict[str, str]:
    return {
        "package": point.dist.name if point.dist is not None else "unknown",
        "version": point.dist.version if point.dist is not None else "unknown",
        "entry_point": point.value,
        "sha256": _sha256(modules),
    }


def _sha256(modules: Iterable[str]) -> str:
    """Over names and contents of every file of the modules, but for what Python makes of them."""
    digest = hashlib.sha256()
    for module in sorted(modules):
        for name, path in _files(module):
            digest.update(f"{module}/{name} {hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return digest.hexdigest()


def _files(module: str) -> Iterator[tuple[str, Path]]:
    spec = find_spec(module)
    if spec is None:
        return
    folders = [Path(folder) for folder in spec.submodule_search_locations or ()]
    if not folders and spec.origin is not None:
        yield Path(spec.origin).name, Path(spec.origin)
    for folder in folders:
        for path in sorted(folder.rglob("*")):
            if path.is_file() and path.suffix != ".pyc":
                yield path.relative_to(folder).as_posix(), path


def _told(facts: Mapping[str, str] | None) -> str:
    return "no such package" if facts is None else package_text(facts)


def package_text(facts: Mapping[str, str]) -> str:
    """`name 1.0 (SHA-256 1a2b3c4d)`."""
    return f"{facts.get('package')} {facts.get('version')} (SHA-256 {facts.get('sha256', '')[:8]})"
