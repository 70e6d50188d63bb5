"""How many launches an interval takes, simulated from the spread between a run's launches.

The spread is known from few launches, and the simulation has that uncertainty: each simulated study draws its true
spread from what the launches leave open (scaled inverse chi-square, flat in its logarithm), then the spread that it
will see, and looks whether its interval (Student's t, as reports have it) is narrow enough.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import variance

from draftbench.harness.metrics.ratios import CONFIDENCE, MIN_LAUNCHES

NUM_STUDIES, SEED = 4000, 20261127
MOST_LAUNCHES = 1000
SHARES = (0.5, 0.9)
"""Of simulated studies that have to reach the wanted interval: as likely as not, and nearly surely."""


@dataclass(frozen=True)
class Wanted:
    """What an interval of ± half_width (as a share) takes.

    Attributes:
        spread: standard deviation of a launch's log ratio, as seen.
        launches: for each of `SHARES` how many; None where more than `MOST_LAUNCHES` would be.
    """

    spread: float
    num_seen: int
    launches: tuple[int | None, ...]


def launches_for(log_ratios: Sequence[float], half_width: float) -> Wanted:
    """Launches after which an interval is as narrow as wanted, from those of a run.

    Args:
        log_ratios: of each launch, `MIN_LAUNCHES` or more.
        half_width: as a share: 0.05 for ±5%.
    """
    import numpy as np
    from scipy.stats import t

    assert len(log_ratios) >= MIN_LAUNCHES
    seen, freedom = variance(log_ratios), len(log_ratios) - 1
    draw = np.random.default_rng(SEED)
    true = seen * freedom / draw.chisquare(freedom, NUM_STUDIES)
    reach = math.log1p(half_width)

    def share(launches: int) -> float:
        found = true * np.random.default_rng([SEED, launches]).chisquare(launches - 1, NUM_STUDIES) / (launches - 1)
        quantile = float(t.ppf((1 + CONFIDENCE) / 2, launches - 1))
        return float(np.mean(quantile * np.sqrt(found / launches) <= reach))

    return Wanted(math.sqrt(seen), len(log_ratios), tuple(_fewest(share, wanted) for wanted in SHARES))


def _fewest(share: Callable[[int], float], wanted: float) -> int | None:
    """The fewest launches of which the share of studies is as large; it grows with the launches."""
    low, high = MIN_LAUNCHES, MIN_LAUNCHES
    while share(high) < wanted:
        low, high = high + 1, 2 * high
        if high > 2 * MOST_LAUNCHES:
            return None
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if share(middle) >= wanted else (middle + 1, high)
    return low if low <= MOST_LAUNCHES else None


def most(found: Sequence[Wanted]) -> tuple[int | None, ...]:
    """Launches after which every one of several intervals is as narrow."""
    columns = zip(*(each.launches for each in found), strict=True)
    return tuple(None if None in column else max(number for number in column if number) for column in columns)
