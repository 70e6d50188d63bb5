"""One row per arm, workload and load point: every metric of a run, from its records."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean
from typing import Any

from pydantic import BaseModel, ConfigDict

from harness.metrics import acceptance, gates
from harness.metrics.compare import BlockKey, speedup
from harness.metrics.latency import mean, tpot_s, ttft_s
from harness.metrics.lossless import lossless_share
from harness.metrics.throughput import decode_step_s, output_tokens_per_s
from harness.records import CellKey, CellRecord, PhaseTimes, ReferenceRecord, RequestRecord


class ArmInfo(BaseModel):
    """What a report needs to know of an arm."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    name: str
    architecture: str
    num_steps: int | None = None
    topk: int | None = None
    num_draft_tokens: int | None = None


class Row(BaseModel):
    """results.csv has the fields down to `reason`, in this order; results.json has all of them."""

    model_config = ConfigDict(frozen=True)

    arm: str
    architecture: str
    workload: str
    concurrency: int
    temperature: float
    num_requests: int
    num_failed: int
    acceptance_length: float | None
    output_tokens_per_s: float | None
    speedup: float | None
    speedup_low: float | None
    speedup_high: float | None
    ttft_s: float | None
    tpot_s: float | None
    step_cost_ratio: float | None
    lossless_share: float | None
    valid: bool
    reason: str
    detail: dict[str, Any]


Point = tuple[str, int]
"""Workload and concurrency."""


def build_rows(
    arms: Sequence[ArmInfo],
    requests: Iterable[RequestRecord],
    cells: Iterable[CellRecord],
    references: Iterable[ReferenceRecord],
    temperature: float,
    dtype: str,
) -> tuple[Row, ...]:
    """All rows of a run, workload by workload, arms in the suite's order.

    The baseline is the first vanilla arm. Cells that were not sealed do not count; the first failed cell of a row
    makes the row invalid.
    """
    sealed = {record.cell: record for record in cells}
    by_cell: dict[CellKey, list[RequestRecord]] = defaultdict(list)
    for request in requests:
        if request.cell in sealed:
            by_cell[request.cell].append(request)
    known = {(r.workload, r.prompt_id, r.turn): r for r in references} if temperature == 0 else {}
    baseline = next((arm.name for arm in arms if arm.architecture == "vanilla"), None)
    points: list[Point] = list(dict.fromkeys((cell.workload, cell.concurrency) for cell in sealed))
    rows = []
    for workload, concurrency in points:
        measured = {
            arm.name: {
                cell: by_cell[cell]
                for cell in sealed
                if (cell.arm, cell.workload, cell.concurrency) == (arm.name, workload, concurrency)
            }
            for arm in arms
        }
        for arm in arms:
            if measured[arm.name]:
                vanilla = measured.get(baseline, {}) if baseline is not None else {}
                rows.append(_row(arm, measured[arm.name], vanilla, sealed, known, temperature, dtype))
    return tuple(rows)


def _row(
    arm: ArmInfo,
    blocks: Mapping[CellKey, list[RequestRecord]],
    vanilla: Mapping[CellKey, list[RequestRecord]],
    sealed: Mapping[CellKey, CellRecord],
    references: Mapping[tuple[str, str, int], ReferenceRecord],
    temperature: float,
    dtype: str,
) -> Row:
    cell = next(iter(blocks))
    requests = [request for block in blocks.values() for request in block]
    drafts = arm.architecture != "vanilla"
    rounds = acceptance.rounds_of(requests) if drafts else []
    tau = acceptance.acceptance_length(rounds)
    ratio = speedup(_per_block(blocks, output_tokens_per_s), _per_block(vanilla, output_tokens_per_s))
    steps, plain = _per_block(blocks, decode_step_s), _per_block(vanilla, decode_step_s)
    cost = speedup(steps, plain) if cell.concurrency == 1 and drafts else None
    share = lossless_share(requests, references)
    decode_low = None if cost is None or tau is None or cost.high is None else tau / cost.high
    findings = [
        *gates.failed_cells([sealed[key] for key in blocks]),
        *gates.failures(requests),
        *(gates.silent_non_speculation(requests, drafts) if requests else ()),
        *gates.unequal_prompts(requests, _sent(vanilla)),
        *gates.engine_counters(requests),
        *gates.unsteady_acceptance(blocks.values(), temperature == 0),
        *gates.impossible_speedup(decode_low, tau, cell.concurrency),
        *gates.not_lossless(share, dtype),
    ]
    invalid = [finding for finding in findings if finding.severity == "invalid"]
    return Row(
        arm=arm.name,
        architecture=arm.architecture,
        workload=cell.workload,
        concurrency=cell.concurrency,
        temperature=temperature,
        num_requests=len(requests),
        num_failed=sum(request.error is not None for request in requests),
        acceptance_length=tau,
        output_tokens_per_s=_geometric_mean(_per_block(blocks, output_tokens_per_s).values()),
        speedup=None if ratio is None else ratio.value,
        speedup_low=None if ratio is None else ratio.low,
        speedup_high=None if ratio is None else ratio.high,
        ttft_s=mean(ttft_s(request) for request in requests),
        tpot_s=mean(tpot_s(request) for request in requests),
        step_cost_ratio=None if cost is None else cost.value,
        lossless_share=share,
        valid=not invalid,
        reason="; ".join(f"{finding.gate}: {finding.evidence}" for finding in invalid),
        detail={
            "depth": arm.num_steps,
            "width": arm.topk,
            "nodes": arm.num_draft_tokens,
            "num_blocks": len({(key.launch, key.block) for key in blocks}),
            "num_launches": len({key.launch for key in blocks}),
            "num_rounds": len(rounds),
            "speedup_scope": None if ratio is None else ratio.scope,
            "survival": acceptance.survival(rounds),
            "conditional_acceptance": acceptance.conditional_acceptance(rounds, arm.num_steps or 0) if rounds else [],
            "draft_acceptance": acceptance.draft_acceptance(rounds),
            "verify_utilisation": acceptance.verify_utilisation(rounds),
            "delivered_tokens_per_round": acceptance.delivered_tokens_per_round(requests),
            "decode_step_s": mean(steps.values()),
            "round_split": round_split([times for key in blocks if (times := sealed[key].phases) is not None]),
            "warnings": [f"{f.gate}: {f.evidence}" for f in findings if f.severity == "warning"],
        },
    )


def round_split(phases: Sequence[PhaseTimes]) -> dict[str, float] | None:
    """Shares of a round's time: draft, verify, extend, other; None where the engine measured none."""
    whole = sum(times.round_ns for times in phases)
    if not whole:
        return None
    spent = {
        "draft": sum(times.draft_ns for times in phases),
        "verify": sum(times.verify_ns for times in phases),
        "extend": sum(times.extend_ns for times in phases),
    }
    shares = {name: value / whole for name, value in spent.items()}
    return {**shares, "other": 1 - sum(shares.values())}


def _per_block(blocks: Mapping[CellKey, Sequence[RequestRecord]], metric: Any) -> dict[BlockKey, float]:
    values = {(cell.launch, cell.block): metric(requests) for cell, requests in blocks.items()}
    return {key: value for key, value in values.items() if value is not None}


def _sent(blocks: Mapping[CellKey, Sequence[RequestRecord]]) -> dict[gates.PromptKey, tuple[str, int | None]]:
    return {
        (request.prompt_id, request.turn): (request.prompt_sha256, request.num_cached_tokens)
        for requests in blocks.values()
        for request in requests
        if request.error is None
    }


def _geometric_mean(values: Iterable[float]) -> float | None:
    logs = [math.log(value) for value in values]
    return math.exp(fmean(logs)) if logs else None


def rows_as_json(rows: Sequence[Row]) -> str:
    """results.json: the same rows with their details, stable byte for byte."""
    return json.dumps([row.model_dump() for row in rows], indent=1, ensure_ascii=False) + "\n"
