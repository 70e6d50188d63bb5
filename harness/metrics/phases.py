"""Where a round's time goes, and which of its passes ran in CUDA graphs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from draftbench.harness.metrics.acceptance import engine_acceptance_length
from draftbench.harness.metrics.arm_point import ArmPoint
from draftbench.harness.metrics.latency import mean
from draftbench.harness.metrics.ratios import IF_KNOWN
from draftbench.harness.records import GraphUse, PhaseTimes


@dataclass(frozen=True)
class RoundSplit:
    """Shares of a round's time; what draft, verify and extend leave is other."""

    draft: float
    verify: float
    extend: float
    other: float


@dataclass(frozen=True)
class GraphShares:
    """Of a row's decode passes or rounds, the share that ran in a CUDA graph, by phase; None for one without graphs."""

    target: float | None
    draft: float | None
    extend: float | None


@dataclass(frozen=True)
class RoundCost:
    """What a row's rounds, or without a draft its steps, took.

    Attributes:
        decode_step_s: mean seconds of one at the client; None of an endpoint that does not count its rounds.
        engine_acceptance_length: SGLang's own count, a cross-check.
        graphs: None where the engine captured none.
        round_split: None where the engine measured none.
    """

    decode_step_s: float | None
    engine_acceptance_length: float | None
    graphs: GraphShares | None = field(metadata=IF_KNOWN)
    round_split: RoundSplit | None

    @classmethod
    def of(cls, at: ArmPoint) -> RoundCost:
        """Of an arm at a point."""
        return cls(
            decode_step_s=None if at.arm.is_endpoint and at.served is None else mean(at.steps.values()),
            engine_acceptance_length=engine_acceptance_length(at.requests),
            graphs=graph_shares([seal.graphs for seal in at.seals if seal.graphs is not None]),
            round_split=round_split(at.phases),
        )


def round_split(phases: Sequence[PhaseTimes]) -> RoundSplit | None:
    """Of all rounds together; None where the engine measured none."""
    whole = sum(times.round_ns for times in phases)
    if not whole:
        return None
    draft = sum(times.draft_ns for times in phases) / whole
    verify = sum(times.verify_ns for times in phases) / whole
    extend = sum(times.extend_ns for times in phases) / whole
    return RoundSplit(draft, verify, extend, 1 - sum((draft, verify, extend)))


def graph_shares(uses: Sequence[GraphUse]) -> GraphShares | None:
    """Of all cells together; None without one."""
    num_passes = sum(use.num_passes for use in uses)

    def share(counts: list[int | None]) -> float | None:
        known = [count for count in counts if count is not None]
        return sum(known) / num_passes if len(known) == len(counts) else None

    if not uses:
        return None
    return GraphShares(
        share([use.target for use in uses]), share([use.draft for use in uses]), share([use.extend for use in uses])
    )
