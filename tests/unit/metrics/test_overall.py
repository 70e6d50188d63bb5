"""An arm over all workloads: geometric means, intervals over launches, and who leads."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from draftbench.harness.metrics.overall import Overall, is_clear, leaders, overall
from draftbench.harness.metrics.row import Row
from tests.fakes.overall import rows_of

TWO = {
    "code": {"eagle": [0.50, 0.52, 0.54], "hass": [0.30, 0.31, 0.32]},
    "chat": {"eagle": [0.10, 0.12, 0.14], "hass": [0.30, 0.31, 0.32]},
}


def by_arm(rows: list[Row], first_stage: int | None = None) -> dict[str, Overall]:
    return {each.arm: each for each in overall(rows, first_stage)}


def test_the_mean_is_geometric_and_its_interval_over_launches() -> None:
    """Launches' means are 0.30, 0.32, 0.34: the half width is 4.3027 · 0.02 / √3."""
    found = by_arm(rows_of(TWO))["eagle"]
    assert found.speedup is not None
    assert found.speedup.value == pytest.approx(math.exp(0.32))
    assert found.speedup.low == pytest.approx(math.exp(0.32 - 4.302653 * 0.02 / math.sqrt(3)))
    assert found.speedup.high == pytest.approx(math.exp(0.32 + 4.302653 * 0.02 / math.sqrt(3)))
    assert found.speedup.scope == "over 3 launches"
    assert (found.num_valid, found.num_workloads, found.is_whole) == (2, 2, True)
    assert found.acceptance_length == 3.0


def test_what_moves_workloads_together_stays_in_the_interval() -> None:
    """A launch that is slow for an arm is slow on all its workloads: more of them do not make the interval narrower."""
    moved = {f"w{n}": {"eagle": [0.2, 0.3, 0.4]} for n in range(9)}
    two, nine = (by_arm(rows_of(dict(list(moved.items())[:n])))["eagle"].speedup for n in (2, 9))
    assert two == nine


def test_an_invalid_row_does_not_count_and_is_counted() -> None:
    """The arm's mean is over the rest; vanilla's invalid row takes the workload from everybody."""
    found = by_arm(rows_of(TWO, invalid=[("eagle", "code")]))
    assert (found["eagle"].num_valid, found["hass"].num_valid) == (1, 2)
    assert found["eagle"].speedup is not None
    assert found["eagle"].speedup.value == pytest.approx(math.exp(0.12))
    assert not found["eagle"].is_whole
    assert [each.arm for each in leaders(found.values())] == ["hass"]


def test_one_workload_or_an_open_loop_has_no_row_of_its_own() -> None:
    """The one says it already; arrivals set the other's throughput."""
    assert overall(rows_of({"code": TWO["code"]})) == ()
    assert overall([replace(row, concurrency=None, load="4/s") for row in rows_of(TWO)]) == ()
    assert overall([]) == ()


def test_without_repetition_there_is_no_interval() -> None:
    """One block; and workloads of different numbers of blocks, as an interrupted run leaves them."""
    one = by_arm(rows_of({w: {"eagle": [0.3]} for w in ("code", "chat")}, scope="within one launch"))["eagle"].speedup
    assert one is not None
    assert (one.low, one.scope) == (None, "one block, no interval")
    parts = rows_of({"code": {"eagle": [0.3, 0.4]}}) + rows_of({"chat": {"eagle": [0.3, 0.4, 0.5]}})
    some = by_arm(parts)["eagle"].speedup
    assert some is not None
    assert some.value == pytest.approx(math.exp((0.35 + 0.4) / 2))
    assert some.low is None


def test_the_first_stage_alone_says_how_far_launches_spread() -> None:
    """As rows' own intervals do where `auto` chose the number of launches."""
    logs = [0.30, 0.32, 0.34, 0.9, -0.3]
    rows = rows_of({w: {"eagle": logs} for w in ("code", "chat")}, scope="over 5 launches")
    found = by_arm(rows, 3)["eagle"].speedup
    assert found is not None
    assert found.low == pytest.approx(found.value * math.exp(-4.302653 * 0.02 / math.sqrt(5)))


def test_who_leads() -> None:
    """The fastest, and those to which no difference is shown; on these numbers eagle and hass are as fast."""
    assert [each.arm for each in leaders(overall(rows_of(TWO)))] == ["eagle", "hass"]
    clear = {w: {"eagle": [0.50, 0.52, 0.54], "hass": [0.30, 0.32, 0.34]} for w in TWO}
    assert [each.arm for each in leaders(overall(rows_of(clear)))] == ["eagle"]
    slow = {w: {"eagle": [-0.50, -0.52, -0.54]} for w in TWO}
    assert [each.arm for each in leaders(overall(rows_of(slow)))] == ["vanilla"]


def test_equal_arms_are_called_different_one_time_in_twenty() -> None:
    """A thousand healthy studies of three launches and four workloads, engines and machine noise on top."""
    draw = np.random.default_rng(0)
    wrong = 0
    for _ in range(1000):
        launches = draw.normal(0, 0.02, 3)
        logs = {f"w{n}": {"eagle": list(launches + draw.normal(0, 0.02, 3))} for n in range(4)}
        wrong += is_clear(by_arm(rows_of(logs))["eagle"].speedup)
    assert 30 <= wrong <= 70
