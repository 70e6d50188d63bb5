"""One arm at one point, a workload under a load: every figure of its row, each worked out once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from draftbench.harness.metrics import acceptance
from draftbench.harness.metrics.blocks import Blocks, Pace, per_block
from draftbench.harness.metrics.distribution import SameDistribution, same_distribution
from draftbench.harness.metrics.endpoint_acceptance import EndpointAcceptance, served, steps_by_counters
from draftbench.harness.metrics.energy import Figure, joules_per_token, net_joules_per_token
from draftbench.harness.metrics.evidence import Design, Judged, KnownArm, Telemetry
from draftbench.harness.metrics.latency import Gap, chunk_gaps
from draftbench.harness.metrics.lossless import Losslessness, losslessness
from draftbench.harness.metrics.ratios import BlockKey, Ratio, compare
from draftbench.harness.metrics.throughput import decode_step_s, median_decode_tokens_per_s
from draftbench.harness.records import CellKey, CellRecord, PhaseTimes, RequestRecord, Round
from draftbench.harness.suite import Arm
from draftbench.harness.telemetry.window_records import WindowRecord


@dataclass(frozen=True)
class ArmPoint:
    """Everything that a row is made from.

    Attributes:
        known: the arm, with what is known of it.
        blocks: its cells at this point with their requests; one at least.
        vanilla: the baseline's, empty where there is none.
        sealed: the seals of all cells.
        baseline_arm: None where there is no vanilla arm.
    """

    known: KnownArm
    blocks: Blocks
    vanilla: Blocks
    sealed: Mapping[CellKey, CellRecord]
    judged: Judged
    design: Design
    telemetry: Telemetry
    baseline_arm: KnownArm | None = None

    @property
    def arm(self) -> Arm:
        """As the suite has it."""
        return self.known.arm

    @property
    def cell(self) -> CellKey:
        """The first cell; all of them share workload and load point."""
        return next(iter(self.blocks))

    @cached_property
    def requests(self) -> list[RequestRecord]:
        """All requests of all blocks."""
        return [request for block in self.blocks.values() for request in block]

    @property
    def simulated(self) -> bool:
        """Whether acceptance was drawn, not measured."""
        return self.arm.simulated_acceptance is not None

    @property
    def greedy(self) -> bool:
        """Whether outputs can be held against vanilla's token by token."""
        return self.design.temperature == 0

    @property
    def baseline(self) -> str | None:
        """The baseline's name."""
        return next(iter(self.vanilla)).arm if self.vanilla else None

    @cached_property
    def served(self) -> EndpointAcceptance | None:
        """What an endpoint tells of its draft; None of our own arms, and of one that tells nothing."""
        return served(self.requests, self.seals) if self.arm.is_endpoint else None

    @property
    def drafts(self) -> bool:
        """Whether it is known how often it verified drafts."""
        return self.arm.drafts or self.served is not None

    @cached_property
    def rounds(self) -> list[Round]:
        """Verify steps; none without a draft, or where a server does not tell them one by one."""
        return acceptance.rounds_of(self.requests) if self.drafts else []

    @cached_property
    def tau(self) -> float | None:
        """Acceptance length."""
        return acceptance.acceptance_length(self.rounds) if self.served is None else self.served.tau

    @cached_property
    def faster(self) -> Ratio | None:
        """Against the baseline: throughput, in an open loop the reciprocal of latency."""
        return self.pace.over(Pace.of(self.vanilla), self.design)

    @cached_property
    def pace(self) -> Pace:
        """What other rows are held against."""
        return Pace.of(self.blocks)

    @property
    def is_open(self) -> bool:
        """Whether requests came at times of their own."""
        return self.cell.concurrency is None

    @property
    def speedup(self) -> Ratio | None:
        """Throughput over the baseline's; an open loop has none."""
        return None if self.is_open else self.faster

    @property
    def sooner(self) -> Ratio | None:
        """The baseline's latency over this, in an open loop."""
        return self.faster if self.is_open else None

    @cached_property
    def steps(self) -> dict[BlockKey, float]:
        """Seconds of a decode step or round, block by block."""
        if self.served is not None and self.served.of_cells:
            return steps_by_counters(self.blocks, self.sealed)
        return per_block(self.blocks, decode_step_s)

    @cached_property
    def cost(self) -> Ratio | None:
        """c: what a round costs in the baseline's steps; at concurrency 1 alone."""
        if self.cell.concurrency != 1 or not self.drafts:
            return None
        return compare(self.steps, per_block(self.vanilla, decode_step_s), None, self.design.first_stage)

    @cached_property
    def decode_speedup(self) -> Ratio | None:
        """Decoding against the baseline's as median steps tell it; at concurrency 1 alone."""
        if self.cell.concurrency != 1 or not self.arm.drafts:
            return None
        ours, theirs = (per_block(blocks, median_decode_tokens_per_s) for blocks in (self.blocks, self.vanilla))
        return compare(ours, theirs, None, self.design.first_stage)

    @cached_property
    def gaps(self) -> list[Gap]:
        """Gaps between chunks."""
        return chunk_gaps(self.requests)

    @cached_property
    def same(self) -> Losslessness | None:
        """Greedy outputs held against the reference pass."""
        if not self.greedy or self.simulated:
            return None
        return losslessness(self.requests, self.judged.references, self.judged.controls, self.judged.scores)

    @cached_property
    def sampled(self) -> SameDistribution | None:
        """Sampled continuations held against the baseline's."""
        if self.greedy or self.simulated or self.baseline in (None, self.arm.name):
            return None
        names = (self.arm.name, self.baseline or "")
        ours, theirs = (self.judged.samples.get(name, {}) for name in names)
        our_odds, their_odds = (self.judged.odds.get(name, {}) for name in names)
        return same_distribution(ours, theirs, our_odds, their_odds, self.cuts_nothing_off)

    @property
    def cuts_nothing_off(self) -> bool:
        """Whether tokens are drawn from the probabilities that the target's scores tell: none is left out, and at a
        temperature of 1 or less those beyond the scored ones do not count."""
        sent = self.seals[0].sampling or {}
        return self.design.temperature <= 1 and sent.get("top_p", 1.0) == 1 and sent.get("top_k", -1) == -1

    @cached_property
    def windows(self) -> list[WindowRecord]:
        """Telemetry of the cells."""
        return self.telemetry.of_cells(self.blocks)

    @cached_property
    def gross(self) -> Figure:
        """Joules per token."""
        return joules_per_token(self.windows, self.requests)

    @cached_property
    def net(self) -> Figure:
        """Joules per token above rest."""
        return net_joules_per_token(self.windows, self.telemetry.rests, self.requests)

    @property
    def vanilla_windows(self) -> list[WindowRecord]:
        """Telemetry of the baseline's cells."""
        return self.telemetry.of_cells(self.vanilla)

    @property
    def seals(self) -> list[CellRecord]:
        """Of its cells."""
        return [self.sealed[key] for key in self.blocks]

    @property
    def vanilla_seals(self) -> list[CellRecord]:
        """Of the baseline's cells."""
        return [self.sealed[key] for key in self.vanilla]

    @property
    def phases(self) -> list[PhaseTimes]:
        """Times of the cells' rounds, where the engine measured them."""
        return [seal.phases for seal in self.seals if seal.phases is not None]

    @property
    def decode_speedup_low(self) -> float | None:
        """Lower bound of τ / c; None of an endpoint, which may take less for a step than the vanilla arm beside it."""
        if self.arm.is_endpoint or self.cost is None or self.tau is None or self.cost.high is None:
            return None
        return self.tau / self.cost.high
