"""How many launches an interval takes: as many as simulated studies of the real comparison take."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest

from draftbench.harness.metrics.needed_launches import MOST_LAUNCHES, launches_for, most
from draftbench.harness.metrics.ratios import compare


def studies(spread: float, num_launches: int, count: int) -> float:
    """Share of studies, made launch by launch and compared as reports do, whose interval is within ±5%."""
    draw = np.random.default_rng(5)
    narrow = 0
    for _ in range(count):
        arm = {(launch, 0): math.exp(draw.normal(0.5, spread)) for launch in range(num_launches)}
        found = compare(arm, {key: 1.0 for key in arm})
        assert found is not None
        assert found.high is not None
        narrow += found.high / found.value <= 1.05
    return narrow / count


@pytest.mark.parametrize("spread", [0.03, 0.08])
def test_as_many_as_the_comparison_itself_takes(spread: float) -> None:
    """From many launches, whose spread is known well: with the numbers given half and nine tenths of studies reach it,
    with two launches fewer not."""
    seen = np.random.default_rng(1).normal(0.5, 1, 4000)
    half, nine = launches_for(list(seen / seen.std() * spread), 0.05).launches
    assert half is not None
    assert nine is not None
    assert half < nine
    for wanted, launches in ((0.5, half), (0.9, nine)):
        assert studies(spread, launches, 1500) > wanted - 0.04
        if launches > 5:
            assert studies(spread, launches - 2, 1500) < wanted


def test_few_launches_leave_more_open() -> None:
    """The same spread from three launches asks for more in nine of ten studies than from thirty."""
    few = launches_for([0.5, 0.52, 0.54], 0.02)
    many = launches_for([0.5, 0.52, 0.54] * 10, 0.02)
    assert few.num_seen == 3
    assert (few.launches[1] or 0) > 2 * (many.launches[1] or MOST_LAUNCHES)


def test_a_narrower_interval_takes_more() -> None:
    """Never fewer, and the fewest there are where a run was already close enough."""
    found = [
        launches_for([0.5, 0.51, 0.55, 0.48], width).launches[0] or MOST_LAUNCHES for width in (0.5, 0.1, 0.05, 0.02)
    ]
    assert found[0] == 3
    assert all(left <= right for left, right in pairwise(found))


def test_what_no_run_reaches_is_no_number() -> None:
    """More than a thousand; and then all of them together have none either."""
    wild = launches_for([0.0, 2.0, -2.0], 0.001)
    assert wild.launches == (None, None)
    calm = launches_for([0.5, 0.5001, 0.4999], 0.05)
    assert calm.launches == (3, 3)
    assert most([wild, calm]) == (None, None)
    assert most([calm, calm]) == (3, 3)


def test_it_is_the_same_each_time() -> None:
    """The seed is fixed."""
    assert launches_for([0.5, 0.6, 0.55], 0.05) == launches_for([0.5, 0.6, 0.55], 0.05)
