"""Rows of drafts that are updated between blocks, on a fake clock."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from draftbench.harness.metrics.blocks import Blocks
from draftbench.harness.metrics.draft_updating import DraftUpdating
from draftbench.harness.metrics.gates.drafting import unsteady_acceptance
from draftbench.harness.metrics.gates.updating import failed_updates, repeated_prompts
from draftbench.harness.metrics.throughput import output_tokens_per_s, whole_window_s
from draftbench.harness.records import CellKey, RequestRecord
from draftbench.harness.update_records import UpdateRecord
from tests.fakes.study import FakeArm, FakeRun

S = 1_000_000_000


def cells(num_blocks: int, launches: int = 1) -> list[CellKey]:
    return [
        CellKey(launch=launch, block=block, arm=arm, workload="w", concurrency=1)
        for launch in range(launches)
        for block in range(num_blocks)
        for arm in ("vanilla", "online")
    ]


def blocks_of(run: FakeRun, arm: str, fresh: bool = True) -> Blocks:
    """By cell; with `fresh` every block has prompts of its own."""
    found: dict[CellKey, list[RequestRecord]] = {}
    for request in run.requests:
        if request.cell.arm == arm:
            own = {"prompt_sha256": f"{request.prompt_sha256} {request.cell.block}"} if fresh else {}
            found.setdefault(request.cell, []).append(request.model_copy(update=own))
    return found


def fake_run(num_blocks: int = 3, launches: int = 1) -> FakeRun:
    arms = [FakeArm("vanilla", 10.0), FakeArm("online", 12.0, (1, 2))]
    return FakeRun(arms, cells(num_blocks, launches))


def update(block: int, num_tokens: int, launch: int = 0, **changes: Any) -> UpdateRecord:
    found = UpdateRecord(
        launch=launch, block=block, arm="online", num_requests=4, num_tokens=num_tokens, num_positions=9, num_dropped=1,
        num_steps=4, loss_before=2.0, loss_after=1.5, wall_ns=2 * S, learning_ns=S, processor_s=1.5, swap_ns=S // 2,
        weights_sha256="0" * 64, folder=f"updates/l{launch}-b{block}-online", error=None,
    )  # fmt: skip
    return found.model_copy(update=changes)


def test_the_updates_time_lowers_throughput_and_speedup_by_its_share():
    """Two updates of 2.5 s, one of which learnt from as many tokens of another workload: 3.75 s are the row's."""
    run = fake_run()
    ours, vanilla = blocks_of(run, "online"), blocks_of(run, "vanilla")
    tokens = sum(request.num_output_tokens for request in next(iter(ours.values())))
    found = DraftUpdating.of(ours, vanilla, [update(0, tokens), update(1, 2 * tokens)], 100.0, 2.0)
    window_s = sum(whole_window_s(requests) or 0 for requests in ours.values())
    share = 3.75 / (3.75 + window_s)
    assert found.time_share == pytest.approx(share)
    assert found.output_tokens_per_s == pytest.approx(100 * (1 - share))
    assert found.speedup == pytest.approx(2 * (1 - share))
    assert [block.num_updates for block in found.blocks] == [0, 1, 2]
    assert [made.update_s for made in found.made] == [2.5, 2.5]


def test_blocks_are_told_one_by_one_over_all_launches():
    """Acceptance length, throughput and speedup of each."""
    run = fake_run(2, launches=2)
    ours, vanilla = blocks_of(run, "online"), blocks_of(run, "vanilla")
    found = DraftUpdating.of(ours, vanilla, [update(0, 10), update(0, 10, launch=1)], None, None)
    assert [block.acceptance_length for block in found.blocks] == [2.5, 2.5]
    first = next(requests for cell, requests in ours.items() if cell.block == 0)
    plain = next(requests for cell, requests in vanilla.items() if cell.block == 0)
    expected = (output_tokens_per_s(first) or 0) / (output_tokens_per_s(plain) or 1)
    assert found.speedups == pytest.approx((expected, expected))
    assert (found.output_tokens_per_s, found.speedup) == (None, None)


def test_without_updates_nothing_is_added():
    """As in a run whose first block is under way; without a baseline there is no speedup."""
    found = DraftUpdating.of(blocks_of(fake_run(1), "online"), {}, [], 100.0, None)
    assert (found.time_share, found.output_tokens_per_s, found.speedup, found.speedups) == (0, 100, None, None)


def test_prompts_that_were_learnt_from_are_named_and_others_are_not():
    """In every block after the update; of another launch nothing is known, since it begins anew."""
    run = fake_run(3, launches=2)
    same, fresh = blocks_of(run, "online", fresh=False), blocks_of(run, "online")
    assert list(repeated_prompts(same, [update(0, 10)])) == [
        "8 of 8 requests after an update have a prompt that it learnt from"
    ]
    assert list(repeated_prompts(fresh, [update(0, 10), update(1, 10)])) == []
    assert list(repeated_prompts(same, [update(0, 10, weights_sha256=None, error="full")])) == []


def test_failed_updates_are_told_with_the_first_reason():
    """And none where all were made, or where nothing was rejected."""
    nothing = update(1, 10, weights_sha256=None)
    assert list(failed_updates([update(0, 10), nothing])) == []
    failed = update(2, 10, weights_sha256=None, error="exit code 1")
    assert list(failed_updates([update(0, 10), failed])) == ["1 of 2, the first after launch 0 block 2: exit code 1"]


def test_acceptance_is_held_against_blocks_of_the_same_prompts_alone():
    """Blocks of their own prompts may differ; the same block of another launch may not."""
    run = fake_run(2, launches=2)
    blocks = [
        [request.model_copy(update={"prompt_id": f"{request.prompt_id} {cell.block}"}) for request in requests]
        for cell, requests in blocks_of(run, "online").items()
    ]
    worse = lambda r: r.model_copy(  # noqa: E731
        update={"rounds": tuple(replace(round_, num_accepted_drafts=0) for round_ in r.rounds)}
    )
    second_block = [[worse(r) for r in requests] if number % 2 else requests for number, requests in enumerate(blocks)]
    assert list(unsteady_acceptance(second_block, True, False)) == []
    second_launch = [
        [worse(r) for r in requests] if number == 3 else requests for number, requests in enumerate(blocks)
    ]
    assert list(unsteady_acceptance(second_launch, True, False)) == ["acceptance length by block: 2.500, 1.000"]
