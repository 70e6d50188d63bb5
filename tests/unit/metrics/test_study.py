"""Whole runs of fake engines: every figure of a row worked out by hand, and every gate provoked once."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest

from draftbench.harness.metrics.results import wanted_launches
from draftbench.harness.metrics.row import Row
from draftbench.harness.records import CellKey
from tests.fakes.study import FakeArm, FakeRun

VANILLA = FakeArm("vanilla", round_ms=10.0)
EAGLE = FakeArm("eagle", round_ms=20.0, accepted=(3, 1))


def cells(*arms: str, launches: int = 1, blocks: int = 2, concurrency: int = 1) -> list[CellKey]:
    """Arms in turns."""
    return [
        CellKey(launch=launch, block=block, arm=arm, workload="w", concurrency=concurrency)
        for launch in range(launches)
        for block in range(blocks)
        for arm in arms
    ]


def run(eagle: FakeArm = EAGLE, **plan: int) -> dict[str, Row]:
    return FakeRun([VANILLA, eagle], cells("vanilla", "eagle", **plan)).rows()


def gates_of(row: Row) -> list[str]:
    return [found.gate.name for found in row.findings]


def test_every_figure_by_hand() -> None:
    """12 rounds of 20 ms accept 3 and 1 in turns: 36 + 1 tokens in 5 + 240 ms, against 13 tokens in 125 ms."""
    rows = run()
    row = rows["eagle"]
    assert row.acceptance_length == 3.0
    assert row.output_tokens_per_s == pytest.approx(37 / 0.245)
    assert row.speedup == pytest.approx((37 / 0.245) / (13 / 0.125))
    assert row.ttft_s == pytest.approx(0.005)
    assert row.tpot_s == pytest.approx(0.240 / 36)
    assert row.step_cost_ratio == pytest.approx(2.0)
    assert row.speed.gain_over_cost == pytest.approx(1.5)
    assert row.acceptance.survival == (1.0, 0.5, 0.5)
    assert row.acceptance.conditional_acceptance == (1.0, 0.5, 1.0, 0.0)
    assert row.acceptance.verify_utilisation == pytest.approx(36 / 60)
    split = vars(row.rounds.round_split)
    assert split == pytest.approx({"draft": 0.2, "verify": 0.6, "extend": 0.1, "other": 0.1})
    assert sum(split.values()) == pytest.approx(1)
    assert row.valid
    assert gates_of(row) == gates_of(rows["vanilla"]) == []
    against = row.against["vanilla"]
    assert against.verdict == "eagle is faster than vanilla by 45% [45%, 45%]"
    assert against.scope == "within one launch"


def test_one_block_gives_no_interval_and_three_launches_a_verdict() -> None:
    """What an interval is over is said; without repetition there is none."""
    assert run(blocks=1)["eagle"].speedup_low is None
    rows = run(launches=3)
    assert rows["eagle"].speed.speedup_scope == "over 3 launches"
    assert wanted_launches(list(rows.values()), 0.01, first_stage=3) == 3


def test_the_number_of_launches_follows_from_the_first_stage_alone() -> None:
    """Log ratios of ±4% in the first five launches ask for many; later launches change nothing."""
    logs = (0.04, -0.04, 0.04, -0.04, 0.0, 0.5, 0.9)
    row = run()["eagle"]
    against = {"vanilla": replace(row.against["vanilla"], log_ratios=logs)}
    rows = [run()["vanilla"], replace(row, against=against)]
    wanted = math.ceil((2.7764451 * 0.04 / math.log1p(0.02)) ** 2)
    assert wanted_launches(rows, 0.02, first_stage=5) == wanted == 32


def test_nothing_is_measured_against_an_invalid_baseline() -> None:
    """Vanilla failed: the draft's own figures stay, its speedup and cost go."""
    broken = FakeArm("vanilla", 10.0, faults=lambda launch, block, prompt: {"error": "lost"} if prompt == 1 else {})
    rows = FakeRun([broken, EAGLE], cells("vanilla", "eagle")).rows()
    assert not rows["vanilla"].valid
    eagle = rows["eagle"]
    assert eagle.valid
    assert eagle.output_tokens_per_s is not None
    assert (eagle.speedup, eagle.speedup_low, eagle.step_cost_ratio, eagle.speed.gain_over_cost) == (None,) * 4
    assert eagle.speed == replace(
        FakeRun([VANILLA, EAGLE], cells("vanilla", "eagle")).rows()["eagle"].speed,
        speedup_scope=None, latency_scope=None, decode_speedup=None, gain_over_cost=None,
    ), "nothing else goes"  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "gate"),
    [
        (lambda launch, block, prompt: {"error": "lost"} if prompt == 1 else {}, "failures"),
        (lambda launch, block, prompt: {"error": "lost"}, "failures"),
        (lambda launch, block, prompt: {"prompt_sha256": "other"}, "unequal prompts"),
        (lambda launch, block, prompt: {"num_cached_tokens": 4}, "unequal cache"),
        (lambda launch, block, prompt: {"engine_verify_ct": 99}, "engine counters"),
        (lambda launch, block, prompt: {"output_ids": (7,) * 37 + (7,) * 20}, "looping outputs"),
        (lambda launch, block, prompt: {"rounds": ()}, "silent non-speculation"),
    ],
)
def test_faults_are_found(changes: Any, gate: str) -> None:
    """Each is named with its evidence, and vanilla's row stays as it is."""
    rows = run(FakeArm("eagle", 20.0, (3, 1), faults=changes))
    assert gate in gates_of(rows["eagle"])
    assert gates_of(rows["vanilla"]) == []
    severity = {found.gate.name: found.gate.severity for found in rows["eagle"].findings}
    assert rows["eagle"].valid == ("invalid" not in severity.values())
    if not rows["eagle"].valid:
        assert rows["vanilla"].against == {}


def test_drafts_that_never_fit_and_drafts_too_good_to_be_true() -> None:
    """No draft accepted is a slow, valid row with a warning; decode faster than acceptance allows is invalid."""
    never = run(FakeArm("eagle", 20.0, (0,)))["eagle"]
    assert gates_of(never) == ["nothing accepted"]
    assert never.valid
    assert never.acceptance_length == 1
    assert (never.speedup or 1) < 1
    fast = run(FakeArm("eagle", 8.0, (3, 1)))["eagle"]
    assert "impossible speedup" in gates_of(fast)
    assert not fast.valid


def test_leftover_state_is_found_between_blocks() -> None:
    """The second block accepts more than the first."""
    warm = FakeRun([VANILLA, EAGLE], cells("vanilla", "eagle", blocks=1))
    more = FakeRun([VANILLA, FakeArm("eagle", 20.0, (3, 3))], cells("vanilla", "eagle", blocks=2)[2:])
    warm.requests += more.requests
    warm.cells += more.cells
    assert gates_of(warm.rows()["eagle"]) == ["leftover state"]


def test_no_row_without_a_cell_and_no_speedup_without_a_baseline() -> None:
    """An arm that was not measured has no row; without vanilla there is nothing to compare with."""
    alone = FakeRun([EAGLE], cells("eagle")).rows()
    assert list(alone) == ["eagle"]
    assert alone["eagle"].speedup is None
    assert alone["eagle"].step_cost_ratio is None
    assert FakeRun([VANILLA, EAGLE], []).rows() == {}


def test_the_crossover_is_found_across_load_points() -> None:
    """Twice as fast at concurrency 1, half as fast at 4: even at 2 or so."""
    plan = cells("vanilla", "eagle") + cells("vanilla", "eagle", concurrency=4)
    study = FakeRun([VANILLA, EAGLE], plan)
    slow = FakeRun([FakeArm("eagle", 60.0, (3, 1))], cells("eagle", concurrency=4))
    study.requests = [r for r in study.requests if (r.cell.arm, r.cell.concurrency) != ("eagle", 4)] + slow.requests
    found = study.rows()["eagle"].crossover_concurrency
    assert 1 < found < 4


def test_a_block_that_was_resumed_half_way_is_told() -> None:
    """Vanilla's first block was measured before the run was resumed, everything else after it."""
    fake = FakeRun([VANILLA, EAGLE], cells("vanilla", "eagle"))
    assert gates_of(fake.rows()["eagle"]) == []
    fake.cells = [record.model_copy(update={"session": int(index > 0)}) for index, record in enumerate(fake.cells)]
    rows = fake.rows()
    assert rows["eagle"].valid
    assert [(found.gate.name, found.evidence) for found in rows["eagle"].findings] == [
        ("split block", "1 of 2 blocks, the first: launch 0, block 0")
    ]
    assert gates_of(rows["vanilla"]) == []
