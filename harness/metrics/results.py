"""All rows of a run from its records, each held against the others of its workload and load point."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, is_dataclass, replace
from typing import Any, TypeVar

from draftbench.harness.metrics import gates
from draftbench.harness.metrics.acceptance import Acceptance
from draftbench.harness.metrics.arm_point import ArmPoint
from draftbench.harness.metrics.blocks import Blocks, Pace, geometric_mean, per_block
from draftbench.harness.metrics.draft_updating import DraftUpdating
from draftbench.harness.metrics.endpoint_acceptance import acceptance_of
from draftbench.harness.metrics.energy import WhyNoEnergy
from draftbench.harness.metrics.evidence import Design, KnownArm, Point, Records
from draftbench.harness.metrics.latency import itl_chunk_s, itl_token_s, latency_s, mean, tpot_s, ttft_s
from draftbench.harness.metrics.machine import host_load, over_time
from draftbench.harness.metrics.phases import RoundCost
from draftbench.harness.metrics.ratios import AGAINST_BASELINE, Against, launches_needed, verdict
from draftbench.harness.metrics.row import Row
from draftbench.harness.metrics.scores import answers_of
from draftbench.harness.metrics.speed import Speed
from draftbench.harness.metrics.throughput import (
    crossovers,
    goodput_per_s,
    offered_per_s,
    output_tokens_per_s,
    steady_tokens_per_s,
    within_limits,
)
from draftbench.harness.records import CellKey, RequestRecord

Figures = TypeVar("Figures", bound=Any)


def build_rows(arms: Sequence[KnownArm], records: Records, design: Design) -> tuple[Row, ...]:
    """All rows of a run, workload by workload, arms in the suite's order.

    The baseline is the first vanilla arm. Cells that were not sealed do not count; the first failed cell of a row
    makes the row invalid. The requests of two arms at one point are in memory at a time, the baseline's and one more.
    """
    sealed = {record.cell: record for record in records.cells}
    cells: dict[Point, dict[str, list[CellKey]]] = defaultdict(lambda: defaultdict(list))
    for cell in sealed:
        cells[cell.workload, cell.load][cell.arm].append(cell)
    plain = next((known for known in arms if known.arm.architecture == "vanilla"), None)
    rows: list[Row] = []
    for point, by_arm in cells.items():
        judged = records.judged(point[0])
        vanilla = _blocks(records, by_arm, plain.arm.name, point) if plain is not None else {}
        found: list[Row] = []
        paces: dict[str, Pace] = {}
        for known in arms:
            if known.arm.name not in by_arm:
                continue
            blocks = vanilla if known is plain else _blocks(records, by_arm, known.arm.name, point)
            watched = {known.arm.name, *(cell.arm for cell in vanilla)}
            telemetry = records.telemetry(watched, point)
            at = ArmPoint(known, blocks, vanilla, sealed, judged, design, telemetry, plain)
            found.append(_row(at))
            paces[known.arm.label] = at.pace
        if any(row.is_baseline and not row.valid for row in found):
            found = [_without_baseline(row) for row in found]
        rows += [_with_verdicts(row, found, paces, design) for row in found]
    return tuple(_with_crossover(row, rows) for row in rows)


def _blocks(records: Records, by_arm: Mapping[str, list[CellKey]], arm: str, point: Point) -> Blocks:
    """An arm's sealed cells at a point with their requests."""
    found: dict[CellKey, list[RequestRecord]] = {cell: [] for cell in by_arm.get(arm, ())}
    for request in records.requests(arm, point) if found else ():
        if request.cell in found:
            found[request.cell].append(request)
    return found


def _row(at: ArmPoint) -> Row:
    """The row of an arm at a point; what takes every row of the point, or of the run, comes later."""
    arm, cell, requests, blocks, limits = at.arm, at.cell, at.requests, at.blocks, at.design.limits
    findings = gates.find(at)
    invalid = [found for found in findings if found.makes_invalid("row")]
    untold = any(found.makes_invalid("energy") for found in findings)
    ratio, sooner = at.speedup, at.sooner
    tokens_per_s = geometric_mean(per_block(blocks, output_tokens_per_s).values())
    updating = None
    if arm.is_updated:
        value = None if ratio is None else ratio.value
        updating = DraftUpdating.of(blocks, at.vanilla, at.known.updates, tokens_per_s, value)
    return Row(
        arm=arm.label,
        architecture=arm.architecture,
        workload=cell.workload,
        load=cell.load,
        concurrency=cell.concurrency,
        offered_per_s=mean(map(offered_per_s, blocks.values())),
        temperature=at.design.temperature,
        num_requests=len(requests),
        num_failed=sum(request.error is not None for request in requests),
        acceptance_length=at.tau,
        output_tokens_per_s=tokens_per_s,
        speedup=None if ratio is None else ratio.value,
        speedup_low=None if ratio is None else ratio.low,
        speedup_high=None if ratio is None else ratio.high,
        ttft_s=mean(map(ttft_s, requests)),
        tpot_s=mean(map(tpot_s, requests)),
        itl_chunk_s=itl_chunk_s(at.gaps),
        itl_token_s=itl_token_s(at.gaps),
        latency_s=mean(map(latency_s, requests)),
        latency_ratio=None if sooner is None else 1 / sooner.value,
        latency_ratio_low=None if sooner is None or sooner.high is None else 1 / sooner.high,
        latency_ratio_high=None if sooner is None or sooner.low is None else 1 / sooner.low,
        steady_tokens_per_s=geometric_mean(
            per_block(blocks, lambda block: steady_tokens_per_s(block, cell.concurrency)).values()
        ),
        goodput_per_s=None if limits is None else mean(goodput_per_s(block, limits) for block in blocks.values()),
        within_limits=None if limits is None else within_limits(requests, limits),
        step_cost_ratio=None if at.cost is None else at.cost.value,
        lossless_share=None if at.same is None else at.same.share,
        joules_per_token=None if untold else at.gross.value,
        net_joules_per_token=None if untold else at.net.value,
        valid=not invalid,
        reason="; ".join(f"{found.gate.name}: {found.evidence}" for found in invalid),
        is_baseline=blocks is at.vanilla,
        simulated_acceptance=arm.alphas(cell.workload),
        num_steps=arm.num_steps,
        topk=arm.topk,
        num_draft_tokens=arm.num_draft_tokens,
        num_blocks=len({(key.launch, key.block) for key in blocks}),
        num_launches=len({key.launch for key in blocks}),
        num_rounds=len(at.rounds) if at.served is None else at.served.num_rounds,
        acceptance_from=None if at.served is None else at.served.source,
        speed=Speed.of(at),
        acceptance=Acceptance.of(requests, arm.num_steps or 0, arm.drafts)
        if at.served is None
        else acceptance_of(requests, at.served),
        rounds=RoundCost.of(at),
        lossless=at.same,
        sampling=at.sampled,
        answers=None if at.simulated else answers_of(cell, at.baseline, at.judged.answers),
        synthetic=cell.workload in at.design.synthetic,
        energy=WhyNoEnergy(at.gross.reason, at.net.reason),
        processes=host_load(at.windows),
        over_time=over_time(at.windows, at.telemetry.began_ns),
        findings=findings,
        against={},
        crossover_concurrency=None,
        updating=updating,
    )


def _without_baseline(value: Figures) -> Figures:
    """A row, or a part of one, without what was measured against a baseline that is invalid."""
    changes: dict[str, Any] = {}
    for each in fields(value):
        own = getattr(value, each.name)
        if each.metadata == AGAINST_BASELINE:
            changes[each.name] = None
        elif is_dataclass(own) and not isinstance(own, type):
            changes[each.name] = _without_baseline(own)
    return replace(value, **changes)


def _with_verdicts(row: Row, rivals: Sequence[Row], paces: Mapping[str, Pace], design: Design) -> Row:
    """The row with a verdict on every other valid row of its point: on throughput, in an open loop on latency.

    What-if rows are not held against drafts that were measured, nor against vanilla beside them.
    """
    found: dict[str, Against] = {}
    only_what_if = all(rival.architecture == "vanilla" or rival.is_simulated for rival in rivals)
    for other in rivals if row.valid else ():
        if other.arm == row.arm or not other.valid:
            continue
        if row.is_simulated != other.is_simulated and not only_what_if:
            continue
        ratio = paces[row.arm].over(paces[other.arm], design)
        if ratio is not None:
            scope = ratio.over(row.architecture, other.architecture)
            said = verdict(row.arm, other.arm, ratio)
            found[other.arm] = Against(ratio.value, ratio.low, ratio.high, scope, ratio.units, said)
    return replace(row, against=found)


def _with_crossover(row: Row, rows: Sequence[Row]) -> Row:
    """The row with the first concurrency at which its arm's throughput and vanilla's cross on this workload."""
    here = [other for other in rows if other.workload == row.workload and other.valid]
    ours = _by_concurrency(other for other in here if other.arm == row.arm)
    plain = _by_concurrency(other for other in here if other.is_baseline)
    found = crossovers(ours, plain)
    return replace(row, crossover_concurrency=found[0][0] if found else None)


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
        against.log_ratios
        for row in rows
        if (against := row.against.get(baselines.get((row.workload, row.load), ""))) is not None
    ]
    measured = [ratios[:first_stage] for ratios in found if len(ratios) > 1]
    return launches_needed(measured, math.log1p(half_width)) if measured else 0
