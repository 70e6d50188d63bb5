"""Speedups as log ratios within blocks, and intervals by Student's t."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import fmean, stdev

BlockKey = tuple[int, int]
"""Launch and block."""
MIN_LAUNCHES = 3
"""With fewer, launch effects (memory layout, affinity) are unknown: the interval holds within one launch only."""


@dataclass(frozen=True)
class Ratio:
    """A geometric mean of ratios with its 95% interval, where there is one, and what the interval is over."""

    value: float
    low: float | None
    high: float | None
    scope: str


def speedup(arm: Mapping[BlockKey, float], baseline: Mapping[BlockKey, float]) -> Ratio | None:
    """Throughput ratio to the baseline of the same block; None without a common block.

    With three launches or more the interval is over launches, else over blocks, "within one launch".
    """
    shared = sorted(set(arm) & set(baseline))
    if not shared:
        return None
    logs = {key: math.log(arm[key] / baseline[key]) for key in shared}
    launches = sorted({launch for launch, _ in shared})
    if len(launches) >= MIN_LAUNCHES:
        units = [fmean(value for (launch, _), value in logs.items() if launch == wanted) for wanted in launches]
        return _interval(units, f"over {len(launches)} launches")
    scope = "within one launch" if len(launches) == 1 else f"over blocks of {len(launches)} launches"
    return _interval(list(logs.values()), scope)


def _interval(logs: list[float], scope: str) -> Ratio:
    from scipy.stats import t

    centre = fmean(logs)
    if len(logs) < 2:
        return Ratio(math.exp(centre), None, None, scope)
    half = float(t.ppf(0.975, len(logs) - 1)) * stdev(logs) / math.sqrt(len(logs))
    return Ratio(math.exp(centre), math.exp(centre - half), math.exp(centre + half), scope)
