"""Every row of a run, from its folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from draftbench.harness.manifest import Manifest
from draftbench.harness.metrics.evidence import Design, KnownArm
from draftbench.harness.metrics.results import build_rows
from draftbench.harness.metrics.row import Row
from draftbench.harness.suite import Suite
from draftbench.harness.texts import printable
from draftbench.harness.workloads.sources import SYNTHETIC
from draftbench.reports.foreign import with_strings
from draftbench.reports.run_records import RunRecords


def rows_of_run(run: Path, manifest: Manifest, on_broken: Callable[[str], None] | None = None) -> tuple[Row, ...]:
    """Every row of a run, from its records alone; on_broken as read_records has it.

    Texts of the rows are printable: what servers and engines said reaches no terminal or table as it came.
    """
    arms = [
        KnownArm(arm, manifest.engines.get(arm.name), manifest.trained_tokens.get(arm.name))
        for arm in manifest.suite.arms
    ]
    rows = build_rows(arms, RunRecords(run, manifest, on_broken), _design(manifest.suite))
    return with_strings(rows, printable)


def _design(suite: Suite) -> Design:
    return Design(
        temperature=suite.sampling.temperature,
        dtype=suite.target.dtype,
        samples=frozenset(workload.name for workload in suite.workloads if workload.prompts == "sample"),
        synthetic=frozenset(workload.name for workload in suite.workloads if workload.source in SYNTHETIC),
        first_stage=suite.first_stage,
        limits=suite.limits,
        random_weights=suite.target.random_weights,
        prefix_cache=suite.prefix_cache,
        has_passes=not suite.target.random_weights and not all(arm.is_endpoint for arm in suite.arms),
    )
