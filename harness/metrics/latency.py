"""Times as a client sees them, in seconds, from integer nanoseconds."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
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


@dataclass(frozen=True)
class Percentiles:
    """The median, 95th and 99th percentile, by nearest rank; None where there are too few values for it."""

    p50: float | None
    p95: float | None
    p99: float | None


def percentiles(values: Iterable[float | None]) -> Percentiles:
    """Of the values there are: one is enough for a median, 20 and 100 for the others."""
    present = sorted(value for value in values if value is not None)

    def rank(share: float, fewest: int) -> float | None:
        return present[math.ceil(share * len(present)) - 1] if len(present) >= fewest else None

    return Percentiles(rank(0.5, 1), rank(0.95, 20), rank(0.99, 100))


@dataclass(frozen=True)
class Spread:
    """Percentiles over a row's requests, of the gaps over all of them; in seconds."""

    ttft_s: Percentiles
    tpot_s: Percentiles
    latency_s: Percentiles
    itl_chunk_s: Percentiles

    @classmethod
    def of(cls, requests: Sequence[RequestRecord], gaps: Sequence[Gap]) -> Spread:
        """From requests and the gaps between their chunks."""
        return cls(
            percentiles(map(ttft_s, requests)),
            percentiles(map(tpot_s, requests)),
            percentiles(map(latency_s, requests)),
            percentiles(gap for gap, _ in gaps),
        )


def mean(values: Iterable[float | None]) -> float | None:
    """Mean of the values there are; None if there are none."""
    present = [value for value in values if value is not None]
    return fmean(present) if present else None
