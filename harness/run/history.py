"""What earlier runs on this host tell of a target's speed, for estimates."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from draftbench.harness.errors import HarnessError
from draftbench.harness.facts import HostFacts
from draftbench.harness.manifest import MANIFEST, Manifest
from draftbench.harness.suite import Suite

LOOKED_AT = 40
"""Runs, the newest ones; a manifest may have a megabyte."""
RESULTS = "results.csv"


@dataclass(frozen=True)
class PastSpeed:
    """Vanilla's tokens a second with one request at a time, and the run that has it."""

    tokens_per_s: float
    folder: Path


def seen_here(suite: Suite, runs: Path, host: HostFacts) -> PastSpeed | None:
    """The newest run of the same target in the same precision on the same processor and GPU; None without one.

    Runs that cannot be read, or have no results yet, tell nothing.
    """
    found = sorted(runs.glob(f"**/{MANIFEST}"), key=lambda path: path.stat().st_mtime, reverse=True)
    for path in found[:LOOKED_AT]:
        try:
            manifest = Manifest.read(path.parent)
        except (HarnessError, OSError):
            continue
        there = manifest.host
        same_host = (there.cpu, there.cores, there.gpu) == (host.cpu, host.cores, host.gpu)
        if same_host and manifest.suite.target == suite.target:
            speeds = _vanilla_tokens_per_s(path.parent / RESULTS)
            if speeds:
                return PastSpeed(median(speeds), path.parent)
    return None


def _vanilla_tokens_per_s(path: Path) -> list[float]:
    try:
        with path.open() as file:
            return [
                float(row["output_tokens_per_s"])
                for row in csv.DictReader(file)
                if row["architecture"] == "vanilla" and row["concurrency"] == "1" and row["valid"] == "true"
            ]
    except (OSError, ValueError, KeyError, TypeError):
        return []
