"""Times as a client sees them, in seconds, from integer nanoseconds."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import pairwise
from statistics import fmean

from draftbench.harness.records import RequestRecord
from draftbench.harness.units import seconds


def ttft_s(request: RequestRecord) -> float | None:
    """Time to first token: from sending (or arriving, in an open loop) to the first chunk; None if it failed."""
    if request.error is not None or not request.chunks:
        return None
    return seconds(request.chunks[0].at_ns - request.began_ns)


def tpot_s(request: RequestRecord) -> float | None:
    """Mean seconds per output token after the first chunk; None when there is no second chunk."""
    if request.error is not None or len(request.chunks) < 2:
        return None
    later = request.num_output_tokens - request.num_first_tokens
    return seconds(request.chunks[-1].at_ns - request.chunks[0].at_ns) / later if later > 0 else None


def latency_s(request: RequestRecord) -> float | None:
    """Time of the whole request: from sending, or arriving in an open loop, to the last chunk; None as for TTFT."""
    if request.error is not None or not request.chunks:
        return None
    return seconds(request.chunks[-1].at_ns - request.began_ns)


Gap = tuple[float, int | None]
"""Seconds between two chunks, and the tokens that the later one brought where that is known."""


def chunk_gaps(requests: Iterable[RequestRecord]) -> list[Gap]:
    """Every gap between two chunks of a finished request."""
    return [
        (seconds(after.at_ns - before.at_ns), after.num_tokens)
        for request in requests
        if request.error is None
        for before, after in pairwise(request.chunks)
    ]


def itl_chunk_s(gaps: Sequence[Gap]) -> float | None:
    """Inter-token latency as a reader sees it: the mean gap between chunks, which may hold several tokens."""
    return fmean(gap for gap, _ in gaps) if gaps else None


def itl_token_s(gaps: Sequence[Gap]) -> float | None:
    """Inter-token latency over tokens: each gap g that brings n tokens counts as n times g / n."""
    counts = [count for _, count in gaps if count is not None]
    num_tokens = sum(counts) if len(counts) == len(gaps) else 0
    return sum(gap for gap, _ in gaps) / num_tokens if num_tokens else None


PERCENTILES = {"p50": (0.5, 1), "p95": (0.95, 20), "p99": (0.99, 100)}
"""Which share of the values is not above it, and how many values it takes for that to mean anything."""


def percentiles(values: Iterable[float | None]) -> dict[str, float | None]:
    """The median, 95th and 99th percentile of the values there are, by nearest rank; None where there are too few."""
    present = sorted(value for value in values if value is not None)
    return {
        name: present[math.ceil(share * len(present)) - 1] if len(present) >= fewest else None
        for name, (share, fewest) in PERCENTILES.items()
    }


def mean(values: Iterable[float | None]) -> float | None:
    """Mean of the values there are; None if there are none."""
    present = [value for value in values if value is not None]
    return fmean(present) if present else None
