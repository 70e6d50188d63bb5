"""Where a run's files go, and the records that are opened there."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from draftbench.drafts.api import discover
from draftbench.harness.errors import RecordError
from draftbench.harness.host.draft_packages import check_unchanged, draft_packages
from draftbench.harness.host.provenance import git_commit, host, package_versions, suite_sha256
from draftbench.harness.manifest import MANIFEST, Manifest
from draftbench.harness.records import SCHEMA_VERSION
from draftbench.harness.store import RunStore
from draftbench.harness.suite import Suite

RUNS = Path("runs")
"""Below the current folder."""


def new_folder(name: str) -> Path:
    """A run's folder that is told apart by its second."""
    return RUNS / f"{name}-{datetime.now(UTC):%Y%m%d-%H%M%S}"


def run_folder(folder: Path | None, resume: bool, name: str) -> Path:
    """Where the run's files go: named, the newest one to resume, or a new name.

    Raises:
        RecordError: there is none to resume.
    """
    if folder is not None:
        return folder
    if not resume:
        return new_folder(name)
    folders = sorted(RUNS.glob(f"{name}-{'[0-9]' * 8}-{'[0-9]' * 6}"))
    found = [path for path in folders if any(path.rglob(MANIFEST))]
    if not found:
        raise RecordError(f"there is no run of {name} in {RUNS}/ to resume; leave --resume out.")
    return found[-1]


def open_store(suite: Suite, folder: Path, command: str, suite_text: str, resume: bool) -> RunStore:
    """The run's records: new ones, or those to go on with.

    Raises:
        RecordError: the folder holds a run already, or to resume none of this suite, or one whose drafts were of other
            packages.
    """
    resolved = suite.model_dump(mode="json")
    packages = draft_packages((arm.architecture for arm in suite.arms), discover())
    if resume:
        if (folder / MANIFEST).exists() and "draft_packages" in (before := Manifest.read(folder)).model_fields_set:
            check_unchanged(before.draft_packages, packages)
        return RunStore.reopen(folder, suite_sha256(resolved))
    manifest = Manifest(
        version=SCHEMA_VERSION,
        suite=suite,
        suite_text=suite_text,
        suite_sha256=suite_sha256(resolved),
        command=command,
        started_at=datetime.now(UTC).isoformat(timespec="seconds"),
        git_commit=git_commit(),
        host=host(),
        packages=package_versions(),
        draft_packages=packages,
        finished=False,
    )
    return RunStore.create(folder, manifest)
