"""One row per arm, workload and load point: every metric of a run, from its records."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from statistics import fmean
from typing import Any

from pydantic import BaseModel, ConfigDict

from harness.metrics import acceptance, gates
from harness.metrics.breakdown import acceptance_along, acceptance_by
from harness.metrics.compare import BlockKey, Part, Ratio, Work, compare, launches_needed, prompt_part, verdict
from harness.metrics.distribution import same_distribution
from harness.metrics.energy import joules_per_token, net_joules_per_token, over_time
from harness.metrics.evidence import ArmInfo, Design, Judged, Telemetry
from harness.metrics.latency import (
    chunk_gaps,
    itl_chunk_s,
    itl_token_s,
    latency_s,
    mean,
    percentiles,
    tpot_s,
    ttft_s,
)
from harness.metrics.lossless import Losslessness, losslessness
from harness.metrics.scores import accuracy, mcnemar, outcomes
from harness.metrics.throughput import (
    crossovers,
    decode_step_s,
    goodput_per_s,
    offered_per_s,
    output_tokens_per_s,
    steady_tokens_per_s,
    whole_window_s,
    within_limits,
)
from harness.records import (
    ENDPOINT,
    CellKey,
    CellRecord,
    GraphUse,
    PhaseTimes,
    RequestRecord,
    ScoreRecord,
    WindowRecord,
)
from harness.units import seconds


class Row(BaseModel):
    """results.csv has the fields down to `reason`, in this order; results.json has all of them."""

    model_config = ConfigDict(frozen=True)

    arm: str
    architecture: str
    workload: str
    load: str
    concurrency: int | None
    offered_per_s: float | None
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
    itl_chunk_s: float | None
    itl_token_s: float | None
    latency_s: float | None
    latency_ratio: float | None
    latency_ratio_low: float | None
    latency_ratio_high: float | None
    steady_tokens_per_s: float | None
    goodput_per_s: float | None
    within_limits: float | None
    step_cost_ratio: float | None
    lossless_share: float | None
    joules_per_token: float | None
    net_joules_per_token: float | None
    valid: bool
    reason: str
    detail: dict[str, Any]


Point = tuple[str, str]
"""Workload and load."""
Blocks = Mapping[CellKey, list[RequestRecord]]
"""A row's cells with their requests."""


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
    baseline = next((arm.name for arm in arms if arm.architecture == "vanilla"), None)
    points: list[Point] = list(dict.fromkeys((cell.workload, cell.load) for cell in sealed))
    rows: list[Row] = []
    for point in points:
        measured: dict[str, Blocks] = {
            arm.label: {
                cell: by_cell[cell] for cell in sealed if (cell.arm, cell.workload, cell.load) == (arm.name, *point)
            }
            for arm in arms
        }
        vanilla = measured.get(baseline, {}) if baseline is not None else {}
        found = [
            _row(arm, measured[arm.label], vanilla, sealed, judged, design, telemetry)
            for arm in arms
            if measured[arm.label]
        ]
        if any(row.detail["is_baseline"] and not row.valid for row in found):
            found = [_without_baseline(row) for row in found]
        rows += [_with_verdicts(row, found, measured, design) for row in found]
    return tuple(_with_crossover(row, rows) for row in rows)


def _row(
    arm: ArmInfo, blocks: Blocks, vanilla: Blocks, sealed: Mapping[CellKey, CellRecord], judged: Judged,
    design: Design, telemetry: Telemetry,
) -> Row:  # fmt: skip
    cell = next(iter(blocks))
    requests = [request for block in blocks.values() for request in block]
    drafts = arm.drafts
    greedy = design.temperature == 0
    simulated = arm.simulated_acceptance is not None
    rounds = acceptance.rounds_of(requests) if drafts else []
    depth = arm.num_steps or 0
    tau = acceptance.acceptance_length(rounds)
    prompts = _prompts(blocks, vanilla, design)
    figures = _per_block(blocks, output_tokens_per_s)
    is_open = cell.concurrency is None
    faster = compare(_speeds(blocks), _speeds(vanilla), prompts, design.first_stage)
    ratio, sooner = (None, faster) if is_open else (faster, None)
    steps, plain = _per_block(blocks, decode_step_s), _per_block(vanilla, decode_step_s)
    cost = compare(steps, plain, None, design.first_stage) if cell.concurrency == 1 and drafts else None
    gaps, limits = chunk_gaps(requests), design.limits
    same = None
    if greedy and not simulated:
        same = losslessness(requests, judged.references, judged.controls, judged.scores)
    baseline = next(iter(vanilla)).arm if vanilla else None
    sampled = None
    if not greedy and not simulated and baseline is not None:
        ours, theirs = (judged.samples.get(name, {}) for name in (arm.name, baseline))
        sampled = same_distribution(ours, theirs) if arm.name != baseline else None
    windows, plain_windows = telemetry.of_cells(blocks), telemetry.of_cells(vanilla)
    gross = joules_per_token(windows, requests)
    net = net_joules_per_token(windows, telemetry.rests, requests)
    decode_low = None if cost is None or tau is None or cost.high is None else tau / cost.high
    graphs = [use for key in blocks if (use := sealed[key].graphs) is not None]
    findings = [
        *gates.failed_cells([sealed[key] for key in blocks]),
        *gates.failures(requests),
        *(gates.silent_non_speculation(requests, drafts) if requests else ()),
        *gates.unequal_prompts(requests, _sent(vanilla)),
        *gates.other_prompt_tokens(requests),
        *gates.unequal_sampling([sealed[key] for key in blocks], [sealed[key] for key in vanilla]),
        *gates.engine_counters(requests),
        *gates.unsteady_acceptance(
            blocks.values(),
            greedy,
            exact=cell.concurrency == 1 and design.dtype == "float32",
            keeps_state=arm.options.get("state") == "keep" or simulated,
        ),
        *gates.impossible_speedup(decode_low, tau, cell.concurrency),
        *gates.unstable_step_time(list(steps.values()) if cell.concurrency == 1 else []),
        *(gates.looping_outputs(requests) if not simulated and not design.random_weights else ()),
        *gates.late_sends(requests),
        *(gates.unsteady_load(blocks.values()) if is_open else ()),
        *gates.not_lossless(same),
        *gates.other_distribution(sampled, expected=drafts and not greedy and not simulated),
        *gates.split_blocks([sealed[key] for key in blocks], [sealed[key] for key in vanilla]),
        *gates.own_settings(arm.engine),
        *gates.made_up(arm.simulated_acceptance, design.random_weights),
        *(gates.endpoint(requests, bool(judged.references)) if arm.is_endpoint and requests else ()),
        *gates.machine(windows, plain_windows),
        *(gates.energy(windows, plain_windows) if gross.value is not None else ()),
    ]
    untold = [found for found in findings if found.scope == "energy" and found.severity == "invalid"]
    invalid = [found for found in findings if found.severity == "invalid" and found.scope == "row"]
    return Row(
        arm=arm.label,
        architecture=arm.architecture,
        workload=cell.workload,
        load=cell.load,
        concurrency=cell.concurrency,
        offered_per_s=mean(map(offered_per_s, blocks.values())),
        temperature=design.temperature,
        num_requests=len(requests),
        num_failed=sum(request.error is not None for request in requests),
        acceptance_length=tau,
        output_tokens_per_s=_geometric_mean(figures.values()),
        speedup=None if ratio is None else ratio.value,
        speedup_low=None if ratio is None else ratio.low,
        speedup_high=None if ratio is None else ratio.high,
        ttft_s=mean(ttft_s(request) for request in requests),
        tpot_s=mean(tpot_s(request) for request in requests),
        itl_chunk_s=itl_chunk_s(gaps),
        itl_token_s=itl_token_s(gaps),
        latency_s=mean(latency_s(request) for request in requests),
        latency_ratio=None if sooner is None else 1 / sooner.value,
        latency_ratio_low=None if sooner is None or sooner.high is None else 1 / sooner.high,
        latency_ratio_high=None if sooner is None or sooner.low is None else 1 / sooner.low,
        steady_tokens_per_s=_geometric_mean(
            _per_block(blocks, lambda block: steady_tokens_per_s(block, cell.concurrency)).values()
        ),
        goodput_per_s=None if limits is None else mean(goodput_per_s(block, limits) for block in blocks.values()),
        within_limits=None if limits is None else within_limits(requests, limits),
        step_cost_ratio=None if cost is None else cost.value,
        lossless_share=None if same is None else same.share,
        joules_per_token=None if untold else gross.value,
        net_joules_per_token=None if untold else net.value,
        valid=not invalid,
        reason="; ".join(f"{found.gate}: {found.evidence}" for found in invalid),
        detail={
            "is_baseline": blocks is vanilla,
            **({"simulated_acceptance": arm.simulated_acceptance} if simulated else {}),
            "depth": arm.num_steps,
            "width": arm.topk,
            "nodes": arm.num_draft_tokens,
            "num_blocks": len({(key.launch, key.block) for key in blocks}),
            "num_launches": len({key.launch for key in blocks}),
            "num_rounds": len(rounds),
            "speedup_scope": None if ratio is None else _scope(ratio, arm.architecture),
            "latency_scope": None if sooner is None else _scope(sooner, arm.architecture),
            "percentiles": {
                "ttft_s": percentiles(map(ttft_s, requests)),
                "tpot_s": percentiles(map(tpot_s, requests)),
                "latency_s": percentiles(map(latency_s, requests)),
                "itl_chunk_s": percentiles(gap for gap, _ in gaps),
            },
            "served_per_s": mean(_served_per_s(block) for block in blocks.values()),
            "mean_lateness_s": mean(
                seconds(request.sent_ns - request.due_ns) for request in requests if request.due_ns is not None
            ),
            "gain_over_cost": None if tau is None or cost is None else tau / cost.value,
            "survival": acceptance.survival(rounds),
            "conditional_acceptance": acceptance.conditional_acceptance(rounds, depth) if rounds else [],
            "by_category": acceptance_by(requests, lambda request: request.category, depth) if drafts else {},
            "by_turn": acceptance_by(requests, lambda request: str(request.turn + 1), depth) if drafts else {},
            "along_output": acceptance_along(requests) if drafts else [],
            "draft_acceptance": acceptance.draft_acceptance(rounds),
            "verify_utilisation": acceptance.verify_utilisation(rounds),
            "delivered_tokens_per_round": acceptance.delivered_tokens_per_round(requests),
            "decode_step_s": None if arm.is_endpoint else mean(steps.values()),
            "engine_acceptance_length": acceptance.engine_acceptance_length(requests),
            **({"graphs": graph_shares(graphs)} if graphs else {}),
            "round_split": round_split([times for key in blocks if (times := sealed[key].phases) is not None]),
            "lossless": None if same is None else _lossless_detail(same),
            "sampling": None if sampled is None else asdict(sampled),
            "answers": None if simulated else _answers(cell, baseline, judged.answers),
            "synthetic": cell.workload in design.synthetic,
            "energy": {"gross_reason": gross.reason, "net_reason": net.reason},
            "processes": _processes(windows),
            "over_time": over_time(windows, telemetry.began_ns),
            "findings": [
                {"gate": found.gate, "severity": found.severity, "scope": found.scope, "evidence": found.evidence}
                for found in findings
            ],
        },
    )


def _answers(cell: CellKey, baseline: str | None, answers: Iterable[ScoreRecord]) -> dict[str, Any] | None:
    """The share of right answers, and McNemar's test against the baseline; None where nothing was scored."""
    ours = outcomes(answers, cell.arm, cell.workload, cell.load)
    if not ours:
        return None
    theirs = {} if baseline is None else outcomes(answers, baseline, cell.workload, cell.load)
    test = mcnemar(ours, theirs) if baseline != cell.arm else None
    return {
        "num_answers": len(ours),
        "accuracy": accuracy(ours),
        "against_baseline": None if test is None else asdict(test),
    }


def _processes(windows: Sequence[WindowRecord]) -> dict[str, Any] | None:
    """Processor seconds and memory of the harness and the engine over a row's windows; None without telemetry."""
    if not windows:
        return None
    used = [window.processes for window in windows]
    engine_s = [each.engine_cpu_s for each in used if each.engine_cpu_s is not None]
    memory = [each.engine_peak_rss_bytes for each in used if each.engine_peak_rss_bytes is not None]
    return {
        "client_cpu_s": sum(each.client_cpu_s for each in used),
        "telemetry_cpu_s": sum(window.telemetry_cpu_s for window in windows),
        "engine_cpu_s": sum(engine_s) if engine_s else None,
        "engine_peak_rss_bytes": max(memory, default=None),
        "host_cpu_share": fmean(each.host_cpu_share for each in used),
    }


def _lossless_detail(same: Losslessness) -> dict[str, Any]:
    return {
        "share": same.share,
        "control_share": same.control_share,
        "num_different": same.num_different,
        "num_unscored": same.num_unscored,
        "num_wrong": same.num_wrong,
        "first_difference": min(same.first_differences, default=None),
        "largest_gap": same.largest_gap,
        "largest_deficit": same.largest_deficit,
        "delta": same.delta,
    }


def _without_baseline(row: Row) -> Row:
    """The row without what was measured against a baseline that is invalid."""
    ratios = ("speedup", "speedup_low", "speedup_high", "latency_ratio", "latency_ratio_low", "latency_ratio_high")
    nothing = dict.fromkeys((*ratios, "step_cost_ratio"))
    detail = {**row.detail, "speedup_scope": None, "latency_scope": None, "gain_over_cost": None}
    return row.model_copy(update={**nothing, "detail": detail})


def is_simulated(row: Row) -> bool:
    """Whether the row's acceptance was drawn, not measured."""
    return row.detail.get("simulated_acceptance") is not None


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
            _speeds(ours),
            _speeds(theirs),
            _prompts(ours, theirs, design),
            design.first_stage,
        )
        if ratio is not None:
            found[other.arm] = {
                "ratio": ratio.value,
                "low": ratio.low,
                "high": ratio.high,
                "scope": _scope(ratio, row.architecture, other.architecture),
                "log_ratios": list(ratio.units),
                "verdict": verdict(row.arm, other.arm, ratio),
            }
    return row.model_copy(update={"detail": {**row.detail, "against": found}})


def _scope(ratio: Ratio, *architectures: str) -> str:
    """What an interval is over; launches do not start an endpoint anew."""
    return ratio.scope + (", one start of the endpoint" if ENDPOINT in architectures else "")


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


def _speeds(blocks: Blocks) -> dict[BlockKey, float]:
    """Per block, what is larger the faster an arm is.

    In an open loop that is not the throughput: an arm that keeps up delivers what is asked for, however fast it is.
    There it is the reciprocal of a request's mean latency.
    """
    cell = next(iter(blocks), None)
    if cell is None or cell.concurrency is not None:
        return _per_block(blocks, output_tokens_per_s)
    return {key: 1 / value for key, value in _per_block(blocks, lambda block: mean(map(latency_s, block))).items()}


def _served_per_s(requests: Sequence[RequestRecord]) -> float | None:
    window_s = whole_window_s(requests)
    return sum(request.error is None for request in requests) / window_s if window_s else None


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


def _prompts(blocks: Blocks, other: Blocks, design: Design) -> Part | None:
    """What the choice of prompts adds to the variance; at concurrency above 1 prompts share time, so they are fixed."""
    cell = next(iter(blocks), None)
    if cell is None or cell.concurrency != 1 or cell.workload not in design.samples:
        return None
    return prompt_part(_work(blocks), _work(other))


def _work(blocks: Blocks) -> dict[str, Work]:
    """What each conversation cost over all blocks; its turns are no independent prompts."""
    spent: dict[str, list[RequestRecord]] = defaultdict(list)
    for requests in blocks.values():
        for request in requests:
            if request.error is None and request.chunks:
                spent[request.prompt_id].append(request)
    return {
        prompt: Work(
            sum(request.num_output_tokens for request in requests),
            sum(seconds(request.chunks[-1].at_ns - request.sent_ns) for request in requests),
        )
        for prompt, requests in spent.items()
    }


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


def graph_shares(uses: Sequence[GraphUse]) -> dict[str, float | None]:
    """Of a row's decode passes or rounds, the share that ran in a CUDA graph, by phase; None for one without graphs."""
    num_passes = sum(use.num_passes for use in uses)
    counts = {phase: [getattr(use, phase) for use in uses] for phase in ("target", "draft", "extend")}
    return {phase: None if None in found else sum(found) / num_passes for phase, found in counts.items()}


def _per_block(blocks: Blocks, metric: Callable[[Sequence[RequestRecord]], float | None]) -> dict[BlockKey, float]:
    values = {(cell.launch, cell.block): metric(requests) for cell, requests in blocks.items()}
    return {key: value for key, value in values.items() if value is not None}


def _sent(blocks: Blocks) -> dict[gates.PromptKey, tuple[str, int | None]]:
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
