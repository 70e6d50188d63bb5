"""How far a ratio moved from one run to another, from the interval that each run gives."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Interval:
    """A positive value with its 95% interval, where there is one."""

    value: float
    low: float | None
    high: float | None


def move(before: Interval, after: Interval) -> Interval:
    """after / before with its 95% interval; without one where either has none.

    Logarithms are subtracted and the distances to each run's own limits combined as squares, so nothing is assumed of
    how either interval came about but that the runs are independent.

    Source: Zou and Donner, Construction of confidence limits about effect measures, Statistics in Medicine 27, 2008.
    """
    centre = math.log(after.value / before.value)
    if before.low is None or before.high is None or after.low is None or after.high is None:
        return Interval(math.exp(centre), None, None)
    down = math.hypot(math.log(after.value / after.low), math.log(before.high / before.value))
    up = math.hypot(math.log(after.high / after.value), math.log(before.value / before.low))
    return Interval(math.exp(centre), math.exp(centre - down), math.exp(centre + up))
