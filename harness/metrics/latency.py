"""Times as a client sees them, in seconds, from integer nanoseconds."""

from __future__ import annotations

from collections.abc import Iterable
from statistics import fmean

from harness.records import RequestRecord
from harness.units import seconds


def ttft_s(request: RequestRecord) -> float | None:
    """Time to first token: from sending to the first chunk; None if nothing arrived or the request failed."""
    if request.error is not None or not request.chunks:
        return None
    return seconds(request.chunks[0].at_ns - request.sent_ns)


def tpot_s(request: RequestRecord) -> float | None:
    """Mean seconds per output token after the first chunk; None when there is no second chunk."""
    if request.error is not None or len(request.chunks) < 2:
        return None
    later = len(request.output_ids) - request.chunks[0].num_tokens
    return seconds(request.chunks[-1].at_ns - request.chunks[0].at_ns) / later


def mean(values: Iterable[float | None]) -> float | None:
    """Mean of the values there are; None if there are none."""
    present = [value for value in values if value is not None]
    return fmean(present) if present else None
