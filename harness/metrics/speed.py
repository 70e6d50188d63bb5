"""How fast a row was beside its headline figures: percentiles, lateness, decoding alone, what intervals are over."""

from __future__ import annotations

from dataclasses import dataclass, field

from draftbench.harness.metrics.arm_point import ArmPoint
from draftbench.harness.metrics.blocks import served_per_s
from draftbench.harness.metrics.latency import Spread, mean
from draftbench.harness.metrics.ratios import AGAINST_BASELINE, Ratio
from draftbench.harness.units import seconds


@dataclass(frozen=True)
class Speed:
    """What the figures of a row's speed leave out.

    Attributes:
        speedup_scope: what the speedup's interval is over; None without a speedup, as in an open loop.
        latency_scope: the same of the latency's ratio, in an open loop.
        served_per_s: requests finished a second, over whole cells.
        mean_lateness_s: by how much the client sent after the arrival; None in a closed loop.
        decode_speedup: decoding against the baseline's as median steps tell it, at concurrency 1.
        gain_over_cost: τ / c.
    """

    speedup_scope: str | None = field(metadata=AGAINST_BASELINE)
    latency_scope: str | None = field(metadata=AGAINST_BASELINE)
    percentiles: Spread
    served_per_s: float | None
    mean_lateness_s: float | None
    decode_speedup: Ratio | None = field(metadata=AGAINST_BASELINE)
    gain_over_cost: float | None = field(metadata=AGAINST_BASELINE)

    @classmethod
    def of(cls, at: ArmPoint) -> Speed:
        """Of an arm at a point."""
        due = [(request.sent_ns, request.due_ns) for request in at.requests if request.due_ns is not None]
        ratio, sooner, architecture = at.speedup, at.sooner, at.arm.architecture
        return cls(
            speedup_scope=None if ratio is None else ratio.over(architecture),
            latency_scope=None if sooner is None else sooner.over(architecture),
            percentiles=Spread.of(at.requests, at.gaps),
            served_per_s=mean(served_per_s(block) for block in at.blocks.values()),
            mean_lateness_s=mean(seconds(sent_ns - due_ns) for sent_ns, due_ns in due),
            decode_speedup=at.decode_speedup,
            gain_over_cost=None if at.tau is None or at.cost is None else at.tau / at.cost.value,
        )
