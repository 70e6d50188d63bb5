"""Every row of a run, from its folder."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace
from pathlib import Path

from draftbench.harness.host.devices import labels
from draftbench.harness.manifest import Manifest
from draftbench.harness.metrics.evidence import Design, KnownArm, Records
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
    records, design, kinds = RunRecords(run, manifest, on_broken), _design(manifest.suite), labels(manifest.devices)
    arms = [
        KnownArm(
            arm,
            manifest.engines.get(arm.name),
            manifest.trained_tokens.get(arm.name),
            tuple(update for update in records.updates if update.arm == arm.name),
        )
        for arm in manifest.suite.arms
    ]
    devices = dict.fromkeys(kinds.values())
    if len(devices) < 2:
        return with_strings(build_rows(arms, records, design), printable)
    rows: list[Row] = []
    for device in devices:
        own = OfLaunches(records, {launch for launch, kind in kinds.items() if kind == device})
        rows += [replace(row, device=device) for row in build_rows(arms, own, design)]
    return with_strings(tuple(rows), printable)


class OfLaunches:
    """The records of some launches, as if the run had no others; what outputs are judged by is the whole run's."""

    def __init__(self, records: Records, launches: Collection[int]) -> None:
        self.cells = tuple(seal for seal in records.cells if seal.cell.launch in launches)
        self.requests, self.telemetry, self.judged = records.requests, records.telemetry, records.judged


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
