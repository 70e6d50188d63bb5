"""All rows of a run from its records, each held against the others of its workload and load point."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from draftbench.harness.metrics.blocks import Blocks, chosen_prompts, speeds
from draftbench.harness.metrics.compare import compare, launches_needed, verdict
from draftbench.harness.metrics.evidence import ArmInfo, Design, Judged, Telemetry
from draftbench.harness.metrics.measured import Measured, scope_text
from draftbench.harness.metrics.row import Row, is_simulated
from draftbench.harness.metrics.throughput import crossovers
from draftbench.harness.records import CellKey, CellRecord, RequestRecord, WindowRecord

Point = tuple[str, str]
"""Workload and load."""


def build_rows(
    arms: Sequence[ArmInfo], requests: Iterable[RequestRecord], cells: Iterable[CellRecord], judged: Judged,
    design: Design, windows: Iterable[WindowRecord] = (),
) -> tuple[Row, ...]:  # fmt: skip
    """All rows of a run, workload by workload, arms in the suite's order.

    The baseline is the first vanilla arm. Cells that were not sealed do not count; the first failed cell of a row
    makes the row invalid.
    """
    sealed = {record.cell: record for record in cells}
    telemetry = Telemetry.of(windows)
    by_cell: dict[CellKey, list[RequestRecord]] = defaultdict(list)
    for request in requests:
        if request.cell in sealed:
            by_cell[request.cell].append(request)
    plain = next((arm for arm in arms if arm.architecture == "vanilla"), None)
    points: list[Point] = list(dict.fromkeys((cell.workload, cell.load) for cell in sealed))
    rows: list[Row] = []
    for point in points:
        measured: dict[str, Blocks] = {
            arm.label: {
                cell: by_cell[cell] for cell in sealed if (cell.arm, cell.workload, cell.load) == (arm.name, *point)
            }
            for arm in arms
        }
        vanilla = measured.get(plain.name, {}) if plain is not None else {}
        found = [
            Measured(arm, measured[arm.label], vanilla, sealed, judged, design, telemetry, plain).row()
            for arm in arms
            if measured[arm.label]
        ]
        if any(row.detail["is_baseline"] and not row.valid for row in found):
            found = [_without_baseline(row) for row in found]
        rows += [_with_verdicts(row, found, measured, design) for row in found]
    return tuple(_with_crossover(row, rows) for row in rows)


def _without_baseline(row: Row) -> Row:
    """The row without what was measured against a baseline that is invalid."""
    ratios = ("speedup", "speedup_low", "speedup_high", "latency_ratio", "latency_ratio_low", "latency_ratio_high")
    nothing = dict.fromkeys((*ratios, "step_cost_ratio"))
    detail = {
        **row.detail,
        "speedup_scope": None,
        "latency_scope": None,
        "gain_over_cost": None,
        "decode_speedup": None,
    }
    return row.model_copy(update={**nothing, "detail": detail})


def _with_verdicts(row: Row, rivals: Sequence[Row], measured: Mapping[str, Blocks], design: Design) -> Row:
    """The row with a verdict on every other valid row of its point: on throughput, in an open loop on latency.

    What-if rows are not held against drafts that were measured, nor against vanilla beside them.
    """
    found: dict[str, dict[str, Any]] = {}
    only_what_if = all(rival.architecture == "vanilla" or is_simulated(rival) for rival in rivals)
    for other in rivals if row.valid else ():
        ours, theirs = measured[row.arm], measured[other.arm]
        if other.arm == row.arm or not other.valid:
            continue
        if is_simulated(row) != is_simulated(other) and not only_what_if:
            continue
        ratio = compare(
            speeds(ours),
            speeds(theirs),
            chosen_prompts(ours, theirs, design),
            design.first_stage,
        )
        if ratio is not None:
            found[other.arm] = {
                "ratio": ratio.value,
                "low": ratio.low,
                "high": ratio.high,
                "scope": scope_text(ratio, row.architecture, other.architecture),
                "log_ratios": list(ratio.units),
                "verdict": verdict(row.arm, other.arm, ratio),
            }
    return row.model_copy(update={"detail": {**row.detail, "against": found}})


def _with_crossover(row: Row, rows: Sequence[Row]) -> Row:
    """The row with the first concurrency at which its arm's throughput and vanilla's cross on this workload."""
    here = [other for other in rows if other.workload == row.workload and other.valid]
    ours = _by_concurrency(other for other in here if other.arm == row.arm)
    plain = _by_concurrency(other for other in here if other.detail["is_baseline"])
    found = crossovers(ours, plain)
    return row.model_copy(update={"detail": {**row.detail, "crossover_concurrency": found[0][0] if found else None}})


def _by_concurrency(rows: Iterable[Row]) -> dict[int, float]:
    return {
        row.concurrency: row.output_tokens_per_s
        for row in rows
        if row.concurrency is not None and row.output_tokens_per_s is not None
    }


def wanted_launches(rows: Sequence[Row], half_width: float, first_stage: int) -> int:
    """Launches after which the interval of every valid speedup is within ± half_width (as a share).

    Only those of the first stage are looked at, also in a run that was resumed later.
    """
    baselines = {(row.workload, row.load): row.arm for row in reversed(rows) if row.architecture == "vanilla"}
    found = [
        row.detail["against"][baseline]["log_ratios"]
        for row in rows
        if (baseline := baselines.get((row.workload, row.load))) in row.detail["against"]
    ]
    measured = [ratios[:first_stage] for ratios in found if len(ratios) > 1]
    return launches_needed(measured, math.log1p(half_width)) if measured else 0
