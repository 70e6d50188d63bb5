"""Under load: steady windows, goodput, latencies from the arrival and what an open loop's rows say, by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from draftbench.harness.manifest import Manifest
from draftbench.harness.metrics.evidence import Design
from draftbench.harness.metrics.gates.timing import LATE_CLIENT, LATE_SENDS, UNSTEADY_LOAD, late, unsteady_load
from draftbench.harness.metrics.latency import (
    Percentiles,
    chunk_gaps,
    itl_chunk_s,
    itl_token_s,
    latency_s,
    percentiles,
    tpot_s,
    ttft_s,
)
from draftbench.harness.metrics.results import build_rows
from draftbench.harness.metrics.row import Row
from draftbench.harness.metrics.throughput import (
    goodput_per_s,
    meets,
    offered_per_s,
    output_tokens_per_s,
    steady_tokens_per_s,
    steady_window_ns,
    within_limits,
)
from draftbench.harness.records import CellKey, RequestRecord
from draftbench.harness.suite import Limits
from draftbench.reports.markdown import render_markdown
from draftbench.reports.table import best_rows
from tests.fakes.held import Held
from tests.fakes.known import known, suite_object

MS = 1_000_000
Make = Callable[..., RequestRecord]


@pytest.fixture
def closed(request_record: Make) -> list[RequestRecord]:
    """Two at a time, each 100 ms: first token after 20 ms, second after 60, two more at the end."""
    starts = (0, 0, 100, 100, 200, 200)
    return [request_record(((at + 20, 1), (at + 60, 1), (at + 100, 2)), None, sent_ms=at) for at in starts]


@pytest.fixture
def opened(request_record: Make) -> list[RequestRecord]:
    """One every 100 ms, each 150 ms: a token after 50 ms and three at the end."""
    return [
        request_record(((at + 50, 1), (at + 150, 3)), None, sent_ms=at + 1, due_ns=at * MS)
        for at in range(0, 1000, 100)
    ]


def test_a_closed_loop_is_steady_from_the_first_tokens_to_the_last_send(closed: list[RequestRecord]) -> None:
    """From 20 ms to 200 ms; in it come (1 + 2) + (1 + 1 + 2) tokens for each of two at a time."""
    assert steady_window_ns(closed, 2) == (20 * MS, 200 * MS)
    assert steady_tokens_per_s(closed, 2) == pytest.approx(14 / 0.18)
    assert output_tokens_per_s(closed) == pytest.approx(24 / 0.3)


def test_a_closed_loop_without_a_steady_window(closed: list[RequestRecord]) -> None:
    """At concurrency 1, with fewer than twice as many requests as at once, and without a request there is none."""
    assert steady_window_ns(closed, 1) is None
    assert steady_window_ns(closed[:3], 2) is None
    assert steady_window_ns([], 2) is None
    assert steady_tokens_per_s(closed, 4) is None


def test_failed_requests_are_part_of_the_load_but_not_of_the_tokens(closed: list[RequestRecord]) -> None:
    """One of the first two gave no token and failed at 100 ms: the ramp ends there; its fellow's tokens count."""
    failed = closed[1].model_copy(update={"error": "lost", "chunks": (), "output_ids": ()})
    requests = [closed[0], failed, *closed[2:]]
    assert steady_window_ns(requests, 2) == (100 * MS, 200 * MS)
    assert steady_tokens_per_s(requests, 2) == pytest.approx(8 / 0.1)


def test_a_block_of_failed_requests_has_no_steady_throughput(closed: list[RequestRecord]) -> None:
    """They make a load, but no figure; blocks beside it have theirs."""
    failed = [request.model_copy(update={"error": "lost", "chunks": (), "output_ids": ()}) for request in closed]
    assert steady_window_ns(failed, 2) is not None
    assert steady_tokens_per_s(failed, 2) is None


def test_an_open_loop_is_steady_once_its_longest_request_could_have_left(opened: list[RequestRecord]) -> None:
    """From 150 ms to the last arrival at 900 ms: chunks of 3 at 250, 350, … 850 and of 1 at 250, …, 850."""
    assert steady_window_ns(opened, None) == (150 * MS, 900 * MS)
    assert not list(unsteady_load([opened]))
    assert steady_tokens_per_s(opened, None) == pytest.approx((7 * 3 + 7 * 1) / 0.75)
    assert offered_per_s(opened) == pytest.approx(10)


def test_an_open_loop_that_falls_behind_is_never_steady(request_record: Make) -> None:
    """Each request takes 100 ms longer than the one before: the queue grows for as long as requests arrive."""
    behind = [
        request_record(((at + 50, 1), (2 * at + 150, 3)), None, sent_ms=at, due_ns=at * MS)
        for at in range(0, 1000, 100)
    ]
    assert steady_window_ns(behind, None) is None
    (evidence,) = unsteady_load([behind, []])
    assert UNSTEADY_LOAD.severity == "warning"
    assert evidence == "none in 1 of 1 blocks: the longest request took 1.1 s, requests arrived within 0.9 s"
    assert steady_window_ns(behind[:1], None) is None


def test_latencies_count_from_the_arrival(request_record: Make) -> None:
    """A client that sends 30 ms late is part of what the user waits for, and of the throughput's window."""
    record = request_record(((100, 1), (200, 4)), None, sent_ms=30, due_ns=0)
    assert ttft_s(record) == pytest.approx(0.1)
    assert latency_s(record) == pytest.approx(0.2)
    assert output_tokens_per_s([record]) == pytest.approx(5 / 0.2)
    assert latency_s(record.model_copy(update={"error": "lost"})) is None


def test_a_late_client_is_found(request_record: Make) -> None:
    """30 ms late is more than a tenth of a TTFT of 100 ms and of a latency of 200 ms, 15 ms of one, 5 ms of none."""
    sent = request_record(((100, 1), (200, 4)), None, sent_ms=30, due_ns=0)

    def found(request: RequestRecord) -> list[str]:
        return [*late([request], "TTFT", ttft_s), *late([request], "latency", latency_s)]

    first, whole = found(sent)
    assert (LATE_SENDS.severity, LATE_CLIENT.severity) == ("warning", "invalid")
    assert first == "sent 30.0 ms late on average, at most 30.0 ms; TTFT is 100.0 ms"
    assert whole == "sent 30.0 ms late on average, at most 30.0 ms; latency is 200.0 ms"
    assert [text[-16:] for text in found(sent.model_copy(update={"sent_ns": 15 * MS}))] == ["TTFT is 100.0 ms"]
    assert not found(sent.model_copy(update={"sent_ns": 5 * MS}))
    assert not found(sent.model_copy(update={"due_ns": None}))


def test_inter_token_latency_is_two_numbers(request_record: Make) -> None:
    """Gaps of 20 ms for 1 token and 40 ms for 3: 30 ms between chunks, 15 ms a token, as TPOT has it here."""
    record = request_record(((10, 1), (30, 1), (70, 3)), None)
    gaps = chunk_gaps([record, record.model_copy(update={"error": "lost"})])
    assert itl_chunk_s(gaps) == pytest.approx(0.03)
    assert itl_token_s(gaps) == pytest.approx(0.015)
    assert tpot_s(record) == pytest.approx(0.015)
    assert itl_chunk_s([]) is itl_token_s([]) is None


def test_percentiles_are_values_and_need_enough_of_them() -> None:
    """Nearest rank: of 1 to 100 the 95th is 95; with 19 values there is no 95th percentile."""
    assert percentiles(map(float, range(1, 101))) == Percentiles(50, 95, 99)
    assert percentiles([*map(float, range(1, 20)), None]) == Percentiles(10, None, None)
    assert percentiles([]) == Percentiles(None, None, None)


def test_goodput_counts_requests_within_every_limit(request_record: Make) -> None:
    """TTFT 10, 30, 10 ms and TPOT 10, 10, 20 ms: one of three meets both limits, in 90 ms; a failed one meets none."""
    requests = [
        request_record(((10, 1), (30, 2)), None),
        request_record(((30, 1), (50, 2)), None),
        request_record(((10, 1), (90, 4)), None),
    ]
    limits = Limits(ttft_ms=20, tpot_ms=15)
    assert [meets(request, limits) for request in requests] == [True, False, False]
    assert goodput_per_s(requests, limits) == pytest.approx(1 / 0.09)
    assert within_limits(requests, limits) == pytest.approx(1 / 3)
    assert within_limits(requests, Limits(tpot_ms=15)) == pytest.approx(2 / 3)
    failed = request_record((), None, error="lost", finish_reason="failed")
    assert within_limits([*requests, failed], limits) == pytest.approx(1 / 4)
    assert goodput_per_s([failed], limits) is None
    assert within_limits([], limits) is None
    one_chunk = request_record(((10, 1),), None)
    assert meets(one_chunk, limits)


@pytest.fixture
def rows(request_record: Make, cell_record: Callable[..., Any]) -> tuple[Row, ...]:
    """Arrivals every 100 ms in two blocks; vanilla takes 80 ms, eagle 40 and in the second block 42."""
    requests, cells = [], []
    for block in range(2):
        for arm, end, accepted in (("vanilla", 80, None), ("eagle", 40 + 2 * block, (2,))):
            cell = CellKey(launch=0, block=block, arm=arm, workload="w", concurrency=None, arrivals="10/s")
            found = [
                request_record(
                    ((at + 20, 1), (at + end, 3)), accepted, arm=arm, sent_ms=at, due_ns=at * MS, cell=cell,
                    prompt_id=f"p{at}",
                )
                for at in range(0, 500, 100)
            ]  # fmt: skip
            requests += found
            cells.append(cell_record(found[0], num_requests=5))
    arms = [known("vanilla", "vanilla"), known("eagle", "eagle", num_steps=3)]
    return build_rows(arms, Held(requests, cells), Design(0.0, "float32", limits=Limits(tpot_ms=15)))


def test_an_open_loop_is_compared_by_latency(rows: tuple[Row, ...]) -> None:
    """No speedup, break-even or crossover: latency is √(40 · 42) / 80 of vanilla's, and the verdict is about it."""
    vanilla, eagle = rows
    assert (eagle.load, eagle.concurrency) == ("10/s", None)
    assert eagle.offered_per_s == pytest.approx(10)
    assert eagle.speedup is eagle.step_cost_ratio is None
    assert eagle.crossover_concurrency is None
    assert eagle.latency_s == pytest.approx(0.041)
    assert eagle.latency_ratio == pytest.approx((0.04 * 0.042) ** 0.5 / 0.08)
    assert eagle.latency_ratio_low < eagle.latency_ratio < eagle.latency_ratio_high
    assert eagle.against["vanilla"].ratio == pytest.approx(1 / eagle.latency_ratio)
    assert (vanilla.within_limits, eagle.within_limits) == (0, 1)
    assert eagle.goodput_per_s == pytest.approx((5 / 0.44 + 5 / 0.442) / 2)
    assert best_rows(rows) == {1}


def test_the_report_says_the_right_thing_of_an_open_loop(rows: tuple[Row, ...]) -> None:
    """The answer is about latency and limits; the arm that vanilla would beat on throughput is not called slow."""
    arms = [{"name": "vanilla", "architecture": "vanilla"}]
    suite = suite_object(arms, limits={"ttft_ms": None, "tpot_ms": 15})
    text = render_markdown(rows, Manifest.of({"suite": suite, "finished": True}), "0")
    assert "On w at 10/s **eagle** has the lowest latency, 0.51x [" in text
    assert "100% of its requests are within the limits, 0% with vanilla." in text
    assert "load |" in text
    assert "In such an open loop an arm that keeps up delivers what is asked for" in text
    assert "## Under load" in text
    assert "TPOT 15 ms" in text
    assert "faster than vanilla by" in text
    assert "speedup" not in text.split("## Arms")[0].split("\n\n")[1]
