"""Tokens and good requests per second, the whole cell's and while the load is steady, and the cost of a round."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from statistics import median

from draftbench.harness.metrics.acceptance import acceptance_length, rounds_of
from draftbench.harness.metrics.latency import chunk_gaps, tpot_s, ttft_s
from draftbench.harness.records import RequestRecord
from draftbench.harness.suite import Limits
from draftbench.harness.units import seconds


def output_tokens_per_s(requests: Sequence[RequestRecord]) -> float | None:
    """Delivered tokens of a cell over the time from its first send (or arrival) to its last token; failed requests left
    out, and the time in which other arms had their turns."""
    window_s = whole_window_s(requests)
    done = [request for request in requests if request.error is None and request.chunks]
    return sum(request.num_output_tokens for request in done) / window_s if window_s else None


def whole_window_s(requests: Sequence[RequestRecord]) -> float | None:
    """Seconds from a cell's first send or arrival to its last token, pauses left out; None if none arrived."""
    done = [request for request in requests if request.error is None and request.chunks]
    if not done:
        return None
    first, last = min(r.began_ns for r in done), max(r.chunks[-1].at_ns for r in done)
    return seconds(last - first - sum(r.paused_ns for r in requests if first < r.began_ns < last))


def steady_window_ns(requests: Sequence[RequestRecord], concurrency: int | None) -> tuple[int, int] | None:
    """From when to when a cell's load was steady; None if it never was.

    Closed loop: from the moment at which each of the first `concurrency` requests has a token until the last request is
    sent, for then the load begins to fall. It takes twice as many requests as run at once, and more than one of these.

    Open loop: from the first arrival on until as much time has passed as the longest request took (from then
    on every request that could still be running has had its chance to arrive) until the last arrival. Where that leaves
    less than half of the arrivals' time nothing was steady: the requests were too few, or came faster than they were
    served.
    """
    if not requests:
        return None
    ordered = sorted(requests, key=lambda request: request.began_ns)
    last = ordered[-1].began_ns
    if concurrency is None:
        first = ordered[0].began_ns
        begin = first + max(request.finished_ns - request.began_ns for request in ordered)
        return (begin, last) if 2 * (last - begin) >= last - first > 0 else None
    if concurrency == 1 or len(ordered) < 2 * concurrency:
        return None
    begin = max(_first_token_ns(request) for request in ordered[:concurrency])
    return (begin, last) if begin < last else None


def _first_token_ns(request: RequestRecord) -> int:
    return request.chunks[0].at_ns if request.chunks else request.finished_ns


def steady_tokens_per_s(requests: Sequence[RequestRecord], concurrency: int | None) -> float | None:
    """Tokens delivered in the steady window over its length, failed requests left out.

    None without a steady window, where no token came in it, or where the server does not count a chunk's tokens.
    """
    window = steady_window_ns(requests, concurrency)
    if window is None:
        return None
    begin, end = window
    chunks = [chunk for request in requests if request.error is None for chunk in request.chunks]
    counts = [chunk.num_tokens for chunk in chunks if begin < chunk.at_ns <= end]
    known = [count for count in counts if count is not None]
    return sum(known) / seconds(end - begin) if counts and len(known) == len(counts) else None


def offered_per_s(requests: Sequence[RequestRecord]) -> float | None:
    """Arrivals a second of an open loop's cell, between its first and its last; None in a closed loop."""
    due = [request.due_ns for request in requests if request.due_ns is not None]
    span_s = seconds(max(due) - min(due)) if due else 0
    return (len(due) - 1) / span_s if span_s else None


def meets(request: RequestRecord, limits: Limits) -> bool:
    """Whether a request finished within every limit; one without a second chunk has no time per later token."""
    ttft, tpot = ttft_s(request), tpot_s(request)
    longest_ttft_s, longest_tpot_s = ((limit or math.inf) / 1000 for limit in (limits.ttft_ms, limits.tpot_ms))
    return ttft is not None and ttft <= longest_ttft_s and (tpot is None or tpot <= longest_tpot_s)


def goodput_per_s(requests: Sequence[RequestRecord], limits: Limits) -> float | None:
    """Requests a second that meet every limit, over the window of the throughput; None if nothing was delivered."""
    window_s = whole_window_s(requests)
    return sum(meets(request, limits) for request in requests) / window_s if window_s else None


def within_limits(requests: Sequence[RequestRecord], limits: Limits) -> float | None:
    """Share of all requests, failed ones included, that meet every limit; None without a request."""
    return sum(meets(request, limits) for request in requests) / len(requests) if requests else None


def decode_step_s(requests: Sequence[RequestRecord]) -> float | None:
    """Mean seconds of one decode step at concurrency 1: a round with a draft, a token without one.

    Only the time between the first and the last chunk counts, so prefill is left out.
    """
    done = [request for request in requests if request.error is None and len(request.chunks) > 1]
    spent = sum(request.chunks[-1].at_ns - request.chunks[0].at_ns for request in done)
    steps = sum(
        request.num_output_tokens - request.num_first_tokens if request.num_rounds is None else request.num_rounds
        for request in done
    )
    return seconds(spent) / steps if steps else None


def median_decode_tokens_per_s(requests: Sequence[RequestRecord]) -> float | None:
    """Tokens a second of decoding at concurrency 1, as the median step tells: τ over the median gap between chunks.

    Long tails, as other programs on the host make them, hardly move it; what a draft's own rounds differ by, they do
    not either, so it stands beside the throughput and not in its place. None where a server does not count a chunk's
    tokens.
    """
    gaps = chunk_gaps(requests)
    if not gaps or any(tokens is None for _, tokens in gaps):
        return None
    rounds = rounds_of(requests)
    steps_s = [gap if rounds else gap / (tokens or 1) for gap, tokens in gaps]
    return (acceptance_length(rounds) or 1.0) / median(steps_s)


def crossovers(draft: Mapping[int, float], vanilla: Mapping[int, float]) -> list[tuple[float, float]]:
    """Where a draft's throughput passes vanilla's: concurrency and tokens per second, between neighbouring points.

    Both lines are taken as straight over the logarithm of the concurrency, as they are drawn.
    """
    shared = sorted(set(draft) & set(vanilla))
    found = []
    for left, right in pairwise(shared):
        before, after = draft[left] - vanilla[left], draft[right] - vanilla[right]
        if (before > 0) != (after > 0):
            share = before / (before - after)
            concurrency = left * (right / left) ** share
            found.append((concurrency, vanilla[left] + share * (vanilla[right] - vanilla[left])))
    return found
