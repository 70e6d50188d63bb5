"""What travels between the command and the devices that launches run on."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from draftbench.drafts.api import discover
from draftbench.harness.errors import EngineError
from draftbench.harness.facts import HostFacts
from draftbench.harness.host.devices import Device
from draftbench.harness.host.draft_packages import draft_packages, package_text
from draftbench.harness.host.provenance import file_sha256, package_versions
from draftbench.harness.places import ROOT
from draftbench.harness.records import CellKey, Record
from draftbench.harness.suite import Suite

TOLD = "told.jsonl"
"""What a device says beside records, in a file of its own."""
UNTOLD = 28
"""Exit code of a device's process that could not even say what was wrong, because nothing can be written there."""
News = tuple[str, str]
"""A line and the name of the file that it stands in on its device: a record's, or TOLD."""
CODE = ("bench.py", "harness", "drafts", "reports")


class Same(Record):
    """What has to be the same wherever a suite's launches run."""

    draftbench: str
    code: str
    models: dict[str, str]
    files: dict[str, str | None]
    draft_packages: dict[str, dict[str, str]] = Field(default_factory=dict)
    """As the manifest has them."""


class Setup(Record):
    """A suite, as a device is told of it once.

    Attributes:
        suite: as the manifest has it.
        folder: where the suite's relative paths begin.
        allowed: engine arguments that its user permitted.
        same: what the device is held against.
        cores: how many of its host's cores are the device's; None for all.
    """

    suite: Suite
    suite_sha256: str
    folder: str
    allowed: tuple[str, ...] = ()
    same: Same
    cold_start: bool = False
    cores: int | None = None


class Job(Record):
    """One launch, or scoring alone.

    Attributes:
        cells: of one launch; none where outputs are only scored.
        session: how often the run was resumed.
        records: lines that the device needs, by the file that they stand in: vanilla's passes, what is scored.
        with_samples: whether arms sample continuations in this launch.
    """

    cells: tuple[CellKey, ...]
    session: int
    records: dict[str, tuple[str, ...]]
    with_samples: bool


class Told(Record):
    """What a device says beside records.

    Attributes:
        what: `ready`, once its models are found and checked; `passed`, once vanilla's passes are over; `done`, once a
            job is; `failed`, where it cannot go on, and `ended`, where the process of its launches did without a word.
    """

    what: Literal["ready", "note", "passed", "done", "failed", "ended"]
    text: str = ""
    device: Device | None = None
    host: HostFacts = HostFacts()
    packages: dict[str, str] = Field(default_factory=dict)
    fits: bool = True
    """Whether all engines of a launch run side by side there."""
    facts: dict[str, Any] = Field(default_factory=dict)
    """Of the manifest, as the launch found them."""


def same_here(suite: Suite, models: Mapping[str, str]) -> Same:
    """What this host has of a suite's code and files.

    Args:
        models: hashes of model folders, by what they are.
    """
    packages = draft_packages((arm.architecture for arm in suite.arms), discover())
    return Same(
        draftbench=metadata.version("draftbench"),
        code=code_sha256(),
        models=dict(models),
        files=files_sha256(suite),
        draft_packages=packages,
    )


def check_same(wanted: Same, found: Same) -> None:
    """Find out whether a device's host has what the command's has.

    Raises:
        EngineError: something differs, with both values.
    """
    if (wanted.draftbench, wanted.code) != (found.draftbench, found.code):
        raise EngineError(
            f"draftbench is {found.draftbench} with code {found.code[:12]} here, {wanted.draftbench} with code "
            f"{wanted.code[:12]} where bench.py runs: install the same one (a checkout's changed files count)."
        )
    for what, pairs in (("models", (wanted.models, found.models)), ("files", (wanted.files, found.files))):
        for name, theirs in pairs[0].items():
            ours = pairs[1].get(name)
            if ours != theirs:
                raise EngineError(
                    f"{what}: {name} has SHA-256 {_short(ours)} here, {_short(theirs)} where bench.py runs: put the "
                    "same one there."
                )
    for name in sorted({*wanted.draft_packages, *found.draft_packages}):
        packages = [same.draft_packages.get(name) for same in (found, wanted)]
        if packages[0] != packages[1]:
            told = ["no such package" if facts is None else package_text(facts) for facts in packages]
            raise EngineError(f"{name} is {told[0]} here, {told[1]} where bench.py runs: install the same one.")


def check_packages(packages: Mapping[str, Mapping[str, str]]) -> None:
    """Find out whether all devices run the same engine.

    Args:
        packages: versions by device.

    Raises:
        EngineError: a package differs, with both versions.
    """
    (first, known), *others = packages.items()
    for where, found in others:
        for name in sorted(known.keys() | found.keys()):
            if known.get(name) != found.get(name):
                raise EngineError(
                    f"{name} is {known.get(name, 'not installed')} on {first}, {found.get(name, 'not installed')} on "
                    f"{where}: install the same version on both."
                )


def versions_here() -> dict[str, str]:
    """Of the packages that numbers depend on."""
    return package_versions()


@cache
def code_sha256() -> str:
    """One hash over draftbench's own modules, by their names and contents."""
    digest = hashlib.sha256()
    for name in CODE:
        path = ROOT / name
        for file in [path] if path.is_file() else sorted(path.rglob("*.py")):
            digest.update(f"{file.relative_to(ROOT)} {file_sha256(file)}\n".encode())
    return digest.hexdigest()


def files_sha256(suite: Suite) -> dict[str, str | None]:
    """Hashes of the files that a suite's prompts are made from, by their paths; None of one that is not there."""
    named = [
        *(workload.path for workload in suite.workloads),
        suite.rendering.template,
        *(point.trace for point in suite.load),
    ]
    paths = [Path(name) for name in named if name is not None]
    return {str(path): file_sha256(path) if path.is_file() else None for path in paths}


def lines_of(records: Sequence[Record]) -> tuple[str, ...]:
    """Records as they travel."""
    return tuple(record.model_dump_json() for record in records)


def _short(sha256: str | None) -> str:
    return "none (it is missing)" if sha256 is None else sha256[:12]
