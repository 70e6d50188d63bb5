"""One arm at one point, measured: every figure of its row, each worked out once, and what its gates find."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from statistics import fmean
from typing import Any

from draftbench.harness.metrics import acceptance, gates
from draftbench.harness.metrics.blocks import (
    Blocks,
    chosen_prompts,
    geometric_mean,
    graph_shares,
    per_block,
    round_split,
    sent,
    served_per_s,
    speeds,
)
from draftbench.harness.metrics.breakdown import acceptance_along, acceptance_by
from draftbench.harness.metrics.compare import BlockKey, Ratio, compare
from draftbench.harness.metrics.distribution import SameDistribution, same_distribution
from draftbench.harness.metrics.energy import Figure, joules_per_token, net_joules_per_token, over_time
from draftbench.harness.metrics.evidence import ArmInfo, Design, Judged, Telemetry
from draftbench.harness.metrics.gates import Finding
from draftbench.harness.metrics.latency import (
    Gap,
    chunk_gaps,
    itl_chunk_s,
    itl_token_s,
    latency_s,
    mean,
    percentiles,
    tpot_s,
    ttft_s,
)
from draftbench.harness.metrics.lossless import Losslessness, lossless_detail, losslessness
from draftbench.harness.metrics.row import Row
from draftbench.harness.metrics.scores import answers_detail
from draftbench.harness.metrics.throughput import (
    decode_step_s,
    goodput_per_s,
    median_decode_tokens_per_s,
    offered_per_s,
    output_tokens_per_s,
    steady_tokens_per_s,
    within_limits,
)
from draftbench.harness.records import ENDPOINT, CellKey, CellRecord, PhaseTimes, RequestRecord, Round, WindowRecord
from draftbench.harness.units import seconds


@dataclass(frozen=True)
class Measured:
    """Everything that a row is made from.

    Attributes:
        blocks: the arm's cells at this point with their requests; one at least.
        vanilla: the baseline's, empty where there is none.
        sealed: the seals of all cells.
    """

    arm: ArmInfo
    blocks: Blocks
    vanilla: Blocks
    sealed: Mapping[CellKey, CellRecord]
    judged: Judged
    design: Design
    telemetry: Telemetry
    plain: ArmInfo | None = None
    """The baseline's arm."""

    def row(self) -> Row:
        """The row; what takes every row of the point comes later."""
        arm, cell, requests, blocks, limits = self.arm, self.cell, self.requests, self.blocks, self.design.limits
        untold = [found for found in self.findings if found.scope == "energy" and found.severity == "invalid"]
        invalid = [found for found in self.findings if found.scope == "row" and found.severity == "invalid"]
        ratio, sooner = self.speedup, self.sooner
        return Row(
            arm=arm.label,
            architecture=arm.architecture,
            workload=cell.workload,
            load=cell.load,
            concurrency=cell.concurrency,
            offered_per_s=mean(map(offered_per_s, self.blocks.values())),
            temperature=self.design.temperature,
            num_requests=len(requests),
            num_failed=sum(request.error is not None for request in requests),
            acceptance_length=self.tau,
            output_tokens_per_s=geometric_mean(per_block(self.blocks, output_tokens_per_s).values()),
            speedup=None if ratio is None else ratio.value,
            speedup_low=None if ratio is None else ratio.low,
            speedup_high=None if ratio is None else ratio.high,
            ttft_s=mean(map(ttft_s, requests)),
            tpot_s=mean(map(tpot_s, requests)),
            itl_chunk_s=itl_chunk_s(self.gaps),
            itl_token_s=itl_token_s(self.gaps),
            latency_s=mean(map(latency_s, requests)),
            latency_ratio=None if sooner is None else 1 / sooner.value,
            latency_ratio_low=None if sooner is None or sooner.high is None else 1 / sooner.high,
            latency_ratio_high=None if sooner is None or sooner.low is None else 1 / sooner.low,
            steady_tokens_per_s=geometric_mean(
                per_block(self.blocks, lambda block: steady_tokens_per_s(block, cell.concurrency)).values()
            ),
            goodput_per_s=None if limits is None else mean(goodput_per_s(block, limits) for block in blocks.values()),
            within_limits=None if limits is None else within_limits(requests, limits),
            step_cost_ratio=None if self.cost is None else self.cost.value,
            lossless_share=None if self.same is None else self.same.share,
            joules_per_token=None if untold else self.gross.value,
            net_joules_per_token=None if untold else self.net.value,
            valid=not invalid,
            reason="; ".join(f"{found.gate}: {found.evidence}" for found in invalid),
            detail={
                **self._design_detail(),
                **self._speed_detail(),
                **self._acceptance_detail(),
                **self._round_detail(),
                **self._judged_detail(),
                **self._machine_detail(),
                "findings": [
                    {"gate": found.gate, "severity": found.severity, "scope": found.scope, "evidence": found.evidence}
                    for found in self.findings
                ],
            },
        )

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
    def rounds(self) -> list[Round]:
        """Verify steps; none without a draft."""
        return acceptance.rounds_of(self.requests) if self.arm.drafts else []

    @cached_property
    def tau(self) -> float | None:
        """Acceptance length."""
        return acceptance.acceptance_length(self.rounds)

    @cached_property
    def faster(self) -> Ratio | None:
        """Against the baseline: throughput, in an open loop the reciprocal of latency."""
        part = chosen_prompts(self.blocks, self.vanilla, self.design)
        return compare(speeds(self.blocks), speeds(self.vanilla), part, self.design.first_stage)

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
        return per_block(self.blocks, decode_step_s)

    @cached_property
    def cost(self) -> Ratio | None:
        """c: what a round costs in the baseline's steps; at concurrency 1 alone."""
        if self.cell.concurrency != 1 or not self.arm.drafts:
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
        ours, theirs = (self.judged.samples.get(name or "", {}) for name in (self.arm.name, self.baseline))
        return same_distribution(ours, theirs)

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

    @cached_property
    def findings(self) -> list[Finding]:
        """What the gates find, in the order of `bench.py explain` as far as they apply."""
        arm, requests, seals = self.arm, self.requests, [self.sealed[key] for key in self.blocks]
        plain, plain_windows = [self.sealed[key] for key in self.vanilla], self.telemetry.of_cells(self.vanilla)
        alone = self.cell.concurrency == 1
        made_up = self.simulated or self.design.random_weights
        return [
            *gates.failed_cells(seals),
            *gates.failures(requests),
            *(silent := list(gates.silent_non_speculation(requests, self._phases, arm.drafts))),
            *(() if silent else gates.nothing_accepted(requests)),
            *gates.unequal_prompts(requests, sent(self.vanilla)),
            *gates.unequal_cache(self.blocks, self.vanilla, arm.shorter_by, self.design.prefix_cache),
            *gates.other_prompt_tokens(requests),
            *gates.unequal_sampling(seals, plain),
            *gates.engine_counters(requests),
            *gates.unsteady_acceptance(
                self.blocks.values(),
                self.greedy,
                exact=alone and self.design.dtype == "float32",
                keeps_state=arm.options.get("state") == "keep" or self.simulated,
            ),
            *gates.impossible_speedup(self._decode_speedup_low(), self.tau, self.cell.concurrency),
            *gates.unstable_step_time(list(self.steps.values()) if alone else []),
            *(() if made_up else gates.looping_outputs(requests)),
            *gates.beyond_training(requests, arm.trained_tokens),
            *gates.late_sends(requests),
            *(gates.unsteady_load(self.blocks.values()) if self.is_open else ()),
            *gates.not_lossless(self.same),
            *gates.other_distribution(self.sampled, expected=arm.drafts and not self.greedy and not self.simulated),
            *gates.split_blocks(seals, plain),
            *gates.lossy_setting(arm, self.plain, self.greedy),
            *gates.own_settings(arm.engine),
            *gates.made_up(arm.alphas(self.cell.workload), self.design.random_weights),
            *(gates.endpoint(requests, bool(self.judged.references)) if arm.is_endpoint and requests else ()),
            *gates.machine(self.windows, plain_windows),
            *(gates.energy(self.windows, plain_windows) if self.gross.value is not None else ()),
        ]

    @property
    def _phases(self) -> list[PhaseTimes]:
        """Times of the cells' rounds, where the engine measured them."""
        seals = [self.sealed[key] for key in self.blocks]
        return [seal.phases for seal in seals if seal.phases is not None]

    def _decode_speedup_low(self) -> float | None:
        """Lower bound of the decode speedup, τ / c."""
        if self.cost is None or self.tau is None or self.cost.high is None:
            return None
        return self.tau / self.cost.high

    def _design_detail(self) -> dict[str, Any]:
        return {
            "is_baseline": self.blocks is self.vanilla,
            **({"simulated_acceptance": self.arm.alphas(self.cell.workload)} if self.simulated else {}),
            "depth": self.arm.num_steps,
            "width": self.arm.topk,
            "nodes": self.arm.num_draft_tokens,
            "num_blocks": len({(key.launch, key.block) for key in self.blocks}),
            "num_launches": len({key.launch for key in self.blocks}),
            "num_rounds": len(self.rounds),
        }

    def _speed_detail(self) -> dict[str, Any]:
        due = [request for request in self.requests if request.due_ns is not None]
        ratio, sooner, architecture = self.speedup, self.sooner, self.arm.architecture
        return {
            "speedup_scope": None if ratio is None else scope_text(ratio, architecture),
            "latency_scope": None if sooner is None else scope_text(sooner, architecture),
            "percentiles": {
                "ttft_s": percentiles(map(ttft_s, self.requests)),
                "tpot_s": percentiles(map(tpot_s, self.requests)),
                "latency_s": percentiles(map(latency_s, self.requests)),
                "itl_chunk_s": percentiles(gap for gap, _ in self.gaps),
            },
            "served_per_s": mean(served_per_s(block) for block in self.blocks.values()),
            "mean_lateness_s": mean(seconds(request.sent_ns - (request.due_ns or 0)) for request in due),
            "decode_speedup": None
            if self.decode_speedup is None
            else {name: getattr(self.decode_speedup, name) for name in ("value", "low", "high", "scope")},
            "gain_over_cost": None if self.tau is None or self.cost is None else self.tau / self.cost.value,
        }

    def _acceptance_detail(self) -> dict[str, Any]:
        requests, rounds, drafts, depth = self.requests, self.rounds, self.arm.drafts, self.arm.num_steps or 0
        return {
            "survival": acceptance.survival(rounds),
            "conditional_acceptance": acceptance.conditional_acceptance(rounds, depth) if rounds else [],
            "by_category": acceptance_by(requests, lambda request: request.category, depth) if drafts else {},
            "by_turn": acceptance_by(requests, lambda request: str(request.turn + 1), depth) if drafts else {},
            "along_output": acceptance_along(requests) if drafts else [],
            "draft_acceptance": acceptance.draft_acceptance(rounds),
            "verify_utilisation": acceptance.verify_utilisation(rounds),
            "delivered_tokens_per_round": acceptance.delivered_tokens_per_round(requests),
        }

    def _round_detail(self) -> dict[str, Any]:
        seals = [self.sealed[key] for key in self.blocks]
        graphs = [seal.graphs for seal in seals if seal.graphs is not None]
        return {
            "decode_step_s": None if self.arm.is_endpoint else mean(self.steps.values()),
            "engine_acceptance_length": acceptance.engine_acceptance_length(self.requests),
            **({"graphs": graph_shares(graphs)} if graphs else {}),
            "round_split": round_split(self._phases),
        }

    def _judged_detail(self) -> dict[str, Any]:
        return {
            "lossless": None if self.same is None else lossless_detail(self.same),
            "sampling": None if self.sampled is None else asdict(self.sampled),
            "answers": None if self.simulated else answers_detail(self.cell, self.baseline, self.judged.answers),
            "synthetic": self.cell.workload in self.design.synthetic,
        }

    def _machine_detail(self) -> dict[str, Any]:
        return {
            "energy": {"gross_reason": self.gross.reason, "net_reason": self.net.reason},
            "processes": _processes(self.windows),
            "over_time": over_time(self.windows, self.telemetry.began_ns),
        }


def scope_text(ratio: Ratio, *architectures: str) -> str:
    """What an interval is over; launches do not start an endpoint anew."""
    return ratio.scope + (", one start of the endpoint" if ENDPOINT in architectures else "")


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
