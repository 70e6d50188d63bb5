"""The answer on top: over all workloads first, single ones where they differ, and nothing that no interval shows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from draftbench.harness.manifest import Manifest
from draftbench.harness.metrics.row import Row
from draftbench.reports.answer import answer
from draftbench.reports.table import clear_rows
from tests.fakes.known import suite_object
from tests.fakes.overall import rows_of

MANIFEST = Manifest.of(
    {
        "version": 1,
        "suite": suite_object([{"name": "vanilla", "architecture": "vanilla"}]),
        "suite_sha256": "0",
        "finished": True,
    }
)
FAST, SLOW = [0.50, 0.51, 0.52], [0.30, 0.31, 0.32]
WIDE = [0.6, 0.1, -0.2]
NINE = [f"w{n}" for n in range(9)]


def told(rows: Sequence[Row]) -> str:
    return answer(rows, MANIFEST)


def test_nine_workloads_are_a_sentence_and_not_a_wall() -> None:
    """The arm that is shown to be the fastest over all stands in bold, with its interval and what that is over."""
    text = told(rows_of({name: {"prism": FAST, "eagle": SLOW} for name in NINE}))
    claim = "**prism** has the highest throughput, 1.67x [1.62, 1.71] vanilla (over 3 launches)."
    assert text == f"Over 9 workloads at concurrency 1 {claim}"


def test_workloads_that_differ_are_named() -> None:
    """Where another arm is shown to be faster; three of them, the rest are counted."""
    rows = rows_of(
        {name: {"prism": FAST, "eagle": SLOW} for name in NINE[:5]}
        | {name: {"prism": SLOW, "eagle": [0.40, 0.41, 0.42]} for name in NINE[5:]}
    )
    text = told(rows)
    assert "**prism** has the highest throughput" in text
    assert "On w5 eagle is faster than prism by 11% [11%, 11%]; on w6 " in text
    assert text.endswith("; 1 more differ.")
    assert len(text) < 500


@pytest.mark.parametrize("workloads", [NINE, NINE[:1]], ids=["over all", "one"])
def test_where_an_interval_holds_1_nobody_is_the_fastest(workloads) -> None:
    """Neither in words nor in bold: against vanilla, and between drafts."""
    unsure = rows_of({name: {"prism": WIDE, "eagle": [-0.2, 0.3, 0.0]} for name in workloads})
    text = told(unsure)
    assert "no difference is shown between vanilla and prism, eagle (prism: 1.18x, too few launches" in text
    close = rows_of({name: {"prism": FAST, "eagle": [0.60, 0.45, 0.48]} for name in workloads})
    text += told(close)
    assert "is faster than vanilla, 1.67x" in text or "is faster than vanilla, 1.66x" in text
    assert "no difference shown to eagle" in text or "no difference shown to prism" in text
    assert "highest" not in text
    assert "**" not in text
    assert clear_rows(unsure) == clear_rows(close) == set()


def test_one_block_shows_nothing() -> None:
    """A ratio without an interval is told with the reason."""
    rows = rows_of({name: {"prism": [0.5]} for name in NINE}, scope="within one launch")
    assert "no difference is shown between vanilla and prism (prism: 1.65x, one block, no interval)" in told(rows)
    single = told(rows[:2])
    assert "no difference is shown between vanilla and prism" in single
    assert "highest" not in single


def test_an_arm_alone_is_compared_with_nobody() -> None:
    """Without vanilla there is nothing to be faster than."""
    (row,) = [row for row in rows_of({"w0": {"prism": FAST}}) if row.arm == "prism"]
    alone = [replace(row, against={}, speedup=None)]
    assert told(alone) == "On w0 at concurrency 1 there is no valid vanilla row to compare with (prism)."
    assert clear_rows(alone) == set()


def test_drafts_that_slow_down_are_told_so() -> None:
    """Vanilla leads, and that is shown."""
    rows = rows_of({name: {"prism": [-0.5, -0.51, -0.52]} for name in NINE})
    assert "Over 9 workloads at concurrency 1 no draft is faster than vanilla." in told(rows)
    assert told(rows[:2]) == "On w0 at concurrency 1 no draft is faster than vanilla."


def test_an_arm_without_a_row_on_each_workload_takes_no_part_over_all() -> None:
    """It may have failed on the hard ones."""
    rows = rows_of({name: {"prism": FAST, "eagle": SLOW} for name in NINE}, invalid=[("prism", "w3")])
    assert "**eagle** has the highest throughput, 1.36x" in told(rows)
    assert "1 of 27 rows are invalid" in told(rows)
    none = rows_of({name: {"prism": FAST} for name in NINE}, invalid=[("prism", "w3")])
    assert "no draft has a valid row on each beside vanilla" in told(none)
