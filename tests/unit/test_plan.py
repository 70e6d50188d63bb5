"""The order in which cells run, and what it does to a drift of the machine."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest

from draftbench.harness.records import CellKey
from draftbench.harness.run.plan import balanced_orders, estimate, plan_cells, turn_groups, turn_orders
from draftbench.harness.suite import Suite, load_suite
from draftbench.harness.workloads.conversations import load_workload
from tests.fakes.study import FakeArm, FakeRun

SIX = [FakeArm("vanilla", 10.0), *(FakeArm(name, 20.0, (2,)) for name in "bcdef")]


def suite(**changes: object) -> Suite:
    """Six arms in three blocks."""
    fields: dict[str, object] = {
        "version": 1,
        "name": "s",
        "target": {"model": "tiny", "dtype": "float32"},
        "arms": tuple({"name": arm.name, "architecture": "vanilla"} for arm in SIX),
        "workloads": ({"name": "w", "source": "synthetic", "family": "code", "num_prompts": 1},),
        "sampling": {"temperature": 0, "max_tokens": 8, "seed": 0},
        "load": ({"concurrency": 1},),
        "blocks": 3,
    }
    return Suite.model_validate({**fields, **changes})


@pytest.mark.parametrize("count", range(1, 8))
@pytest.mark.parametrize("blocks", range(2, 8))
def test_places_add_up_alike(count: int, blocks: int) -> None:
    """Over a launch's blocks every arm's places have the same sum; with an odd number of blocks of an even number of
    arms no order can do that, and they differ by one."""
    names = [str(number) for number in range(count)]
    orders = balanced_orders(names, blocks, seed=0, launch=0)
    assert all(sorted(order) == names for order in orders)
    sums = [sum(order.index(name) for order in orders) for name in names]
    assert max(sums) - min(sums) == (1 if blocks % 2 and count % 2 == 0 else 0)


def test_launches_start_in_orders_of_their_own() -> None:
    """Drawn from the suite's seed: the same each time, another in each launch."""
    names = list("abcdef")
    first, second = (balanced_orders(names, 1, 0, launch)[0] for launch in (0, 1))
    assert first != second
    assert balanced_orders(names, 1, 0, 0)[0] == first


def test_a_drift_falls_on_all_arms_alike() -> None:
    """20% over the run moves the interleaved speedup by less than 1%, a sequential one by more than 5%."""
    cells = plan_cells(suite())
    steady = FakeRun(SIX, cells).rows()
    drifting = FakeRun(SIX, cells, drift=0.2).rows()
    sequential = FakeRun(SIX, sorted(cells, key=lambda cell: cell.arm != "vanilla"), drift=0.2).rows()
    truth = steady["f"].speedup
    assert truth == pytest.approx((37 / 245) / (13 / 125))
    for name in "bcdef":
        assert drifting[name].speedup == pytest.approx(truth, rel=0.01)
    assert min(sequential[name].speedup or 0 for name in "bcdef") < 0.95 * truth


def test_arms_that_take_turns_start_once_a_block() -> None:
    """Where only one engine fits, an arm runs all its workloads before the next one starts."""
    workloads = tuple(
        {"name": name, "source": "synthetic", "family": "code", "num_prompts": 1} for name in ("w", "x", "y")
    )
    cells = plan_cells(suite(workloads=workloads), resident=False)
    assert len(set(cells)) == 6 * 3 * 3
    assert starts(cells) <= 6 * 3
    assert starts(plan_cells(suite(workloads=workloads), resident=True)) > 6 * 3
    assert Counter(cell.workload for cell in cells) == {"w": 18, "x": 18, "y": 18}


def starts(cells: tuple[CellKey, ...]) -> int:
    """How often an engine has to start if only one runs at a time."""
    return 1 + sum(before.arm != after.arm for before, after in pairwise(cells))


def test_auto_begins_with_a_first_stage() -> None:
    """Five launches of two blocks, from which the rest is worked out."""
    auto = suite(blocks="auto", auto={"half_width": 0.02, "time_limit_s": 600})
    cells = plan_cells(auto)
    assert {cell.launch for cell in cells} == set(range(5))
    assert {cell.block for cell in cells} == {0, 1}


def test_at_concurrency_1_the_arms_of_a_blocks_point_take_turns():
    """Other loads are measured cell by cell, and so is what a resumed run has left alone."""
    cells = plan_cells(suite(load=({"concurrency": 1}, {"concurrency": 2}), blocks=2))
    groups = turn_groups(cells)
    assert [cell for group in groups for cell in group] == list(cells)
    assert [len(group) for group in groups] == [6, *[1] * 6, 6, *[1] * 6]
    assert all(len({(cell.block, cell.workload) for cell in group}) == 1 for group in groups)
    assert [len(group) for group in turn_groups(cells[4:6])] == [2]
    one_at_a_time = plan_cells(suite(), resident=False)
    assert max(len(group) for group in turn_groups(one_at_a_time)) == 6


def test_turns_of_a_block_are_balanced_and_differ_from_block_to_block():
    """Every arm goes first as often as last; another block draws other orders."""
    cells = [cell for cell in plan_cells(suite()) if cell.arm == "vanilla"]
    orders = turn_orders(cells[0], 6, 8, seed=0)
    assert all(sorted(order) == list(range(6)) for order in orders)
    assert len({sum(order.index(arm) for order in orders) for arm in range(6)}) == 1
    assert orders == turn_orders(cells[0], 6, 8, seed=0) != turn_orders(cells[1], 6, 8, seed=0)


def test_prompts_of_a_file_are_counted_for_the_estimate() -> None:
    """A file without num_prompts has as many as it holds; one that cannot be read leaves the time unknown."""
    tiny = load_suite(Path("suites/gsm8k-tiny.yaml"))
    found = estimate(tiny)
    assert found.time_s is not None
    whole = len(load_workload(tiny.workloads[0], tiny.sampling.seed))
    points, repeats = len(tiny.load), len(tiny.arms) * tiny.blocks_per_launch * tiny.launches
    assert found.num_requests == whole * points * repeats
    lost = tiny.workloads[0].model_copy(update={"path": "absent.jsonl"})
    assert estimate(tiny.model_copy(update={"workloads": (lost,)})).time_s is None
