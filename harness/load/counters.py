"""A server's own counters of its drafts, read before and after a cell, where it says nothing request by request.

Sources: vLLM 0.33, v1/metrics and v1/spec_decode/metrics.py; SGLang 0.5.17, observability/metrics_collector.py (served
with --enable-metrics).
"""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from draftbench.harness.records import CounterSource, ServedCounters

SETTLE_S, LOOK_S = 3.0, 0.1
"""Counters follow the last answer by a step or so: for how long they are waited for."""
NAMES: Mapping[CounterSource, Mapping[str, str]] = {
    "vllm": {
        "requests": "vllm:request_success", "tokens": "vllm:generation_tokens",
        "rounds": "vllm:spec_decode_num_drafts", "accepted": "vllm:spec_decode_num_accepted_tokens",
        "proposed": "vllm:spec_decode_num_draft_tokens", "positions": "vllm:spec_decode_num_accepted_tokens_per_pos",
    },
    "sglang": {
        "requests": "sglang:num_requests", "tokens": "sglang:generation_tokens", "rounds": "sglang:spec_verify_calls",
    },
}  # fmt: skip
DEEPEST = 256
"""More positions than any draft has."""


@dataclass(frozen=True)
class CounterReading:
    """All of a server's engines at one moment, since they started; None is what it does not count."""

    source: CounterSource
    requests: int
    tokens: int
    rounds: int
    accepted: int | None
    proposed: int | None
    positions: tuple[int, ...] | None
    """Accepted drafts by their place in the draft."""


def reading_of(text: str) -> CounterReading | None:
    """What a /metrics page says of drafts; None where it says nothing, or is no such page."""
    from prometheus_client.parser import text_string_to_metric_families

    found: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))
    try:
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                if sample.name.endswith("_total"):
                    found[sample.name.removesuffix("_total")][sample.labels.get("position", "")] += sample.value
    except (ValueError, KeyError, IndexError, TypeError):  # not in the format
        return None
    for source, names in NAMES.items():
        if names["rounds"] in found:
            counts = {what: _sum(found[name]) if name in found else None for what, name in names.items()}
            places = _places(found[names["positions"]]) if names.get("positions") in found else None
            return CounterReading(
                source,
                counts["requests"] or 0,
                counts["tokens"] or 0,
                counts["rounds"] or 0,
                counts.get("accepted"),
                counts.get("proposed"),
                places,
            )
    return None


def settled(
    read: Callable[[], CounterReading | None], enough: Callable[[CounterReading], bool] | None = None
) -> CounterReading | None:
    """A reading that no longer moves, or that has enough; the last one where neither comes in time."""
    until_s = time.monotonic() + SETTLE_S
    found = read()
    while found is not None and not (enough is not None and enough(found)) and time.monotonic() < until_s:
        time.sleep(LOOK_S)
        later = read()
        if later == found and enough is None:
            return later
        found = later
    return found


def counters_between(
    before: CounterReading | None, after: CounterReading | None, num_requests: int, num_failed: int, num_tokens: int
) -> ServedCounters | None:
    """What a cell did to a server's counters; refused where it was not alone. None without counters.

    Args:
        num_requests: that the cell sent, failed ones among them.
        num_tokens: that it was delivered.
    """
    if before is None or after is None or before.source != after.source:
        return None
    requests, tokens, rounds = (
        getattr(after, name) - getattr(before, name) for name in ("requests", "tokens", "rounds")
    )
    at_least = _survivors(before.positions, after.positions)
    more = tokens - num_tokens
    refused = None
    if min(requests, tokens, rounds) < 0:
        refused = "the server was started anew meanwhile"
    elif num_failed:
        refused = f"{num_failed} requests failed, and what they drafted is in the counters"
    elif requests != num_requests:
        refused = f"the server counts {requests} requests, {num_requests} were ours"
    elif not 0 <= more <= num_requests * (1 + len(at_least or ())):
        refused = f"the server counts {tokens} tokens, {num_tokens} were ours"
    return ServedCounters(
        source=before.source,
        num_rounds=max(0, rounds),
        num_accepted=_difference(before.accepted, after.accepted),
        num_proposed=_difference(before.proposed, after.proposed),
        num_at_least=at_least,
        refused=refused,
    )


def _survivors(before: Sequence[int] | None, after: Sequence[int] | None) -> tuple[int, ...] | None:
    """Steps that accepted one draft or more, two or more, and so on."""
    if after is None:
        return None
    known = [*(before or ()), *([0] * (len(after) - len(before or ())))]
    return tuple(max(0, later - sooner) for sooner, later in zip(known, after, strict=False))


def _difference(before: int | None, after: int | None) -> int | None:
    return None if before is None or after is None else max(0, after - before)


def _sum(values: Mapping[str, float]) -> int:
    total = sum(values.values())
    return int(total) if math.isfinite(total) else 0


def _places(values: Mapping[str, float]) -> tuple[int, ...]:
    by_place = {int(place): value for place, value in values.items() if place.isascii() and place.isdecimal()}
    deepest = min(max(by_place, default=-1), DEEPEST)
    return tuple(_sum({"": by_place.get(place, 0.0)}) for place in range(deepest + 1))
