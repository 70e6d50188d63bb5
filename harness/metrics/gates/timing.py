"""Whether times and joules are what they seem: steady, of one machine, and not the client's own."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from statistics import fmean

from draftbench.harness.metrics.arm_point import ArmPoint
from draftbench.harness.metrics.energy import different_sources, held_back, too_short, unequal_clocks
from draftbench.harness.metrics.gates.gate import Gate
from draftbench.harness.metrics.latency import latency_s, mean, ttft_s
from draftbench.harness.metrics.throughput import steady_window_ns
from draftbench.harness.records import RequestRecord
from draftbench.harness.units import seconds

STEADY = 1.5
"""Largest over smallest mean step time of a row's blocks that passes as steady."""
LATE = 0.1
"""Mean lateness of the client, as a share of the mean TTFT or latency, that passes."""


def impossible_speedup(low: float | None, acceptance: float | None, concurrency: int | None) -> Iterable[str]:
    """At concurrency 1 a round costs at least a vanilla step, so no decode speedup can exceed the acceptance length."""
    if concurrency == 1 and low is not None and acceptance is not None and low > acceptance:
        yield f"decode speedup of at least {low:.2f} with an acceptance length of {acceptance:.2f}"


IMPOSSIBLE_SPEEDUP = Gate(
    "impossible speedup", "invalid", "row",
    "At concurrency 1 the decode speedup does not exceed the acceptance length.",
    "A round costs at least a step of vanilla's, so τ is the most that can be gained.",
    "Look for a slow baseline: other arguments, another load on the machine, a cold start.",
    lambda at: impossible_speedup(at.decode_speedup_low, at.tau, at.cell.concurrency),
)  # fmt: skip


def unstable_step_time(steps: Sequence[float]) -> Iterable[str]:
    """Blocks whose mean step times are far apart."""
    if len(steps) > 1 and max(steps) > STEADY * min(steps):
        yield f"from {1000 * min(steps):.1f} to {1000 * max(steps):.1f} ms in the blocks"


UNSTABLE_STEP_TIME = Gate(
    "unstable step time", "warning", "row",
    f"A step's mean time in the slowest block is at most {STEADY} times that in the fastest.",
    "Other programs, clocks or temperature moved while the row was measured.",
    "Free the machine, or add blocks and launches: interleaving keeps the ratios fair, intervals show the rest.",
    lambda at: unstable_step_time(list(at.steps.values())) if at.cell.concurrency == 1 else (),
)  # fmt: skip


def late(
    requests: Sequence[RequestRecord], what: str, metric: Callable[[RequestRecord], float | None]
) -> Iterable[str]:
    """Requests of an open loop that the client sent well after they were due, beside a time of the same requests."""
    late_s = [seconds(request.sent_ns - request.due_ns) for request in requests if request.due_ns is not None]
    whole_s = mean(map(metric, requests))
    if late_s and whole_s is not None and fmean(late_s) > LATE * whole_s:
        evidence = f"sent {1000 * fmean(late_s):.1f} ms late on average, at most {1000 * max(late_s):.1f} ms; "
        yield evidence + f"{what} is {1000 * whole_s:.1f} ms"


LATE_SENDS = Gate(
    "late sends", "warning", "row",
    f"In an open loop requests were sent on arrival, at most {LATE:.0%} of TTFT late on average.",
    "TTFT counts from the arrival, so part of it is the client's.",
    "See `late client`.",
    lambda at: late(at.requests, "TTFT", ttft_s),
)  # fmt: skip

LATE_CLIENT = Gate(
    "late client", "invalid", "row",
    f"In an open loop requests were sent at most {LATE:.0%} of their latency late on average.",
    "Latencies count from the arrival, so a client that is late is measured as a slow engine.",
    "Free the machine that the client runs on, or lower the rate; `selftest` says what the client costs.",
    lambda at: late(at.requests, "latency", latency_s),
)  # fmt: skip


def unsteady_load(blocks: Iterable[Sequence[RequestRecord]]) -> Iterable[str]:
    """Blocks of an open loop without a steady window."""
    found = [block for block in blocks if block]
    unsteady = [block for block in found if steady_window_ns(block, None) is None]
    if unsteady:
        longest = max(request.finished_ns - request.began_ns for block in unsteady for request in block)
        span = max(max(r.began_ns for r in block) - min(r.began_ns for r in block) for block in unsteady)
        evidence = (
            f"none in {len(unsteady)} of {len(found)} blocks: the longest request took {seconds(longest):.1f} s, "
        )
        yield evidence + f"requests arrived within {seconds(span):.1f} s"


UNSTEADY_LOAD = Gate(
    "unsteady load", "warning", "row",
    "In an open loop every block had a steady window: the arm kept up with the arrivals.",
    "Where a queue grows for as long as requests arrive, latency tells the length of the run and no speed.",
    "Lower the rate, or take more prompts if they arrive within a few times the longest request.",
    lambda at: unsteady_load(at.blocks.values()) if at.is_open else (),
)  # fmt: skip


def _told(evidence: str | None) -> Iterable[str]:
    return () if evidence is None else (evidence,)


HELD_BACK = Gate(
    "held back", "warning", "row", "No GPU ran below its clocks for power, heat or hardware.",
    "A throttled arm is measured on another machine.",
    "Cool the GPU, raise its power limit, or fix its clocks for all arms.",
    lambda at: _told(held_back(at.windows)),
)  # fmt: skip

UNEQUAL_CLOCKS = Gate(
    "unequal clocks", "warning", "row", "Each GPU's mean SM clock was within 2% of vanilla's.",
    "A ratio of throughputs then holds a ratio of clocks.",
    "Fix the clocks for the run, or warm the GPU up before it.",
    lambda at: _told(unequal_clocks(at.windows, at.vanilla_windows)),
)  # fmt: skip


def _has_joules(at: ArmPoint) -> bool:
    return at.gross.value is not None


SHORT_ENERGY_WINDOW = Gate(
    "short energy window", "invalid", "energy", "Each cell took 30 s or more.",
    "Energy counters move every 20 to 100 ms and sampled power lags by up to a second.",
    "Take more prompts or longer outputs.",
    lambda at: _told(too_short(at.windows)) if _has_joules(at) else (),
)  # fmt: skip

UNEQUAL_ENERGY_SOURCES = Gate(
    "unequal energy sources", "invalid", "energy", "Joules were read in the same way as vanilla's.",
    "A counter and sampled power differ by more than the drafts do.",
    "Start a new run; look at what doctor says of the sensors.",
    lambda at: _told(different_sources(at.windows, at.vanilla_windows)) if _has_joules(at) else (),
)  # fmt: skip
