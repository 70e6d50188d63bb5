"""One row of a report: the figures of an arm on one workload at one load point."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any

from draftbench.harness.metrics.acceptance import Acceptance
from draftbench.harness.metrics.distribution import SameDistribution
from draftbench.harness.metrics.draft_updating import DraftUpdating
from draftbench.harness.metrics.energy import WhyNoEnergy
from draftbench.harness.metrics.gates.gate import Finding
from draftbench.harness.metrics.lossless import Losslessness
from draftbench.harness.metrics.machine import HostLoad, Moment
from draftbench.harness.metrics.phases import RoundCost
from draftbench.harness.metrics.ratios import AGAINST_BASELINE, IF_KNOWN, UNTOLD, Against
from draftbench.harness.metrics.scores import ScoredAnswers
from draftbench.harness.metrics.speed import Speed


@dataclass(frozen=True, kw_only=True)
class Row:
    """results.csv has the fields down to `reason`, in this order; results.json has the others under `detail`."""

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
    speedup: float | None = field(metadata=AGAINST_BASELINE)
    speedup_low: float | None = field(metadata=AGAINST_BASELINE)
    speedup_high: float | None = field(metadata=AGAINST_BASELINE)
    ttft_s: float | None
    tpot_s: float | None
    itl_chunk_s: float | None
    itl_token_s: float | None
    latency_s: float | None
    latency_ratio: float | None = field(metadata=AGAINST_BASELINE)
    latency_ratio_low: float | None = field(metadata=AGAINST_BASELINE)
    latency_ratio_high: float | None = field(metadata=AGAINST_BASELINE)
    steady_tokens_per_s: float | None
    goodput_per_s: float | None
    within_limits: float | None
    step_cost_ratio: float | None = field(metadata=AGAINST_BASELINE)
    lossless_share: float | None
    joules_per_token: float | None
    net_joules_per_token: float | None
    valid: bool
    reason: str
    is_baseline: bool
    simulated_acceptance: tuple[float, ...] | None = field(metadata=IF_KNOWN)
    """What was drawn; None where acceptance was measured."""
    num_steps: int | None
    topk: int | None
    num_draft_tokens: int | None
    num_blocks: int
    num_launches: int
    num_rounds: int
    acceptance_from: str | None = field(metadata=IF_KNOWN)
    """Whose count acceptance is, where it is not our recorder's."""
    speed: Speed
    acceptance: Acceptance
    rounds: RoundCost
    lossless: Losslessness | None
    sampling: SameDistribution | None
    answers: ScoredAnswers | None
    synthetic: bool
    energy: WhyNoEnergy
    processes: HostLoad | None
    over_time: tuple[Moment, ...]
    findings: tuple[Finding, ...]
    against: Mapping[str, Against]
    """By the other row's arm; none of an invalid row."""
    crossover_concurrency: float | None
    updating: DraftUpdating | None = field(default=None, metadata=IF_KNOWN)
    """Of a draft that is updated between blocks."""
    device: str | None = field(default=None, metadata=IF_KNOWN)
    """What the row's launches ran on, where a run's ran on devices of several kinds."""

    @property
    def is_simulated(self) -> bool:
        """Whether the row's acceptance was drawn, not measured."""
        return self.simulated_acceptance is not None


def by_device(rows: Iterable[Row]) -> dict[str | None, list[Row]]:
    """Rows of one kind of device together: nothing is held against another kind's."""
    found: dict[str | None, list[Row]] = {}
    for row in rows:
        found.setdefault(row.device, []).append(row)
    return found


_NAMES = tuple(each.name for each in fields(Row))
FIGURES = _NAMES[: _NAMES.index("reason") + 1]
"""The columns of results.csv."""
_MERGED = ("speed", "acceptance", "rounds")
"""Their figures stand in `detail` themselves."""
_OTHER_NAMES = {"num_steps": "depth", "topk": "width", "num_draft_tokens": "nodes"}
"""As results.json has always had them."""


def rows_as_json(rows: Sequence[Row]) -> str:
    """results.json: every row's figures and its details, stable byte for byte."""
    return json.dumps([as_object(row) for row in rows], indent=1, ensure_ascii=False) + "\n"


def as_object(row: Row) -> dict[str, Any]:
    """A row as results.json has it."""
    whole = _plain(row)
    detail: dict[str, Any] = {}
    for name in _NAMES[len(FIGURES) :]:
        if name in whole:
            detail |= whole[name] if name in _MERGED else {_OTHER_NAMES.get(name, name): whole[name]}
    return {**{name: whole[name] for name in FIGURES}, "detail": detail}


def _plain(value: Any) -> Any:
    """What JSON can hold."""
    if isinstance(value, Finding):
        gate = value.gate
        return {"gate": gate.name, "severity": gate.severity, "scope": gate.scope, "evidence": value.evidence}
    if is_dataclass(value):
        given = [(each, getattr(value, each.name)) for each in fields(value) if each.metadata != UNTOLD]
        return {each.name: _plain(own) for each, own in given if own is not None or each.metadata != IF_KNOWN}
    if isinstance(value, Mapping):
        return {name: _plain(item) for name, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value
