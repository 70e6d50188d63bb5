"""From a suite to its cells, in the order in which they run: a pure function."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import TypeVar

from draftbench.harness.errors import HarnessError
from draftbench.harness.load.arrivals import arrival_times
from draftbench.harness.records import CellKey
from draftbench.harness.run.history import PastSpeed
from draftbench.harness.suite import LoadPoint, Suite, Workload
from draftbench.harness.suite.trace import read_trace
from draftbench.harness.units import duration
from draftbench.harness.workloads.conversations import load_workload
from draftbench.harness.workloads.sources import COUNTED, SOURCES

ENGINE_START_S = 20.0
CPU_TOKENS_PER_S = 90.0
"""Assumptions of the estimate: seen with the tiny target on two CPU cores."""

Named = TypeVar("Named", str, int)


def plan_cells(suite: Suite, resident: bool = True) -> tuple[CellKey, ...]:
    """Every cell once: launches, in them blocks, in them workloads and load points, in them the arms.

    With `blocks: auto` these are the first stage's cells.

    Args:
        resident: all engines of a launch run side by side. Where they have to take turns, an arm runs all its cells of
            a block before the next one starts, so that an engine starts once a block.
    """
    return tuple(cell for launch in range(num_launches(suite)) for cell in plan_launch(suite, launch, resident))


def num_launches(suite: Suite) -> int:
    """Launches that are known beforehand."""
    return suite.first_stage or suite.launches


def plan_launch(suite: Suite, launch: int, resident: bool = True) -> tuple[CellKey, ...]:
    """The cells of one launch."""
    cells: list[CellKey] = []
    names = [arm.name for arm in suite.arms]
    points = list(product([workload.name for workload in suite.workloads], suite.load))
    for block, order in enumerate(balanced_orders(names, suite.blocks_per_launch, suite.sampling.seed, launch)):
        pairs = [(arm, point) for point in points for arm in order]
        if not resident:
            pairs = [(arm, point) for arm in order for point in points]
        cells.extend(
            CellKey(
                launch=launch,
                block=block,
                arm=arm,
                workload=workload,
                concurrency=point.concurrency,
                arrivals=point.name if point.is_open else None,
            )
            for arm, (workload, point) in pairs
        )
    return tuple(cells)


def balanced_orders(names: Sequence[str], num_blocks: int, seed: int, launch: int) -> list[list[str]]:
    """The arms' order in each block of a launch: random, and such that a steady drift falls on all arms alike.

    Blocks come in pairs, the second in the first one's order reversed: every arm's places add up to the same. An odd
    number of blocks begins with three whose places add up to the same, or to one more for half of an even number of
    arms: the second block is the first one moved round by half the arms, the third ranks them by the first two.
    """
    return _balanced(names, num_blocks, random.Random(f"{seed} {launch}"))


def _balanced(names: Sequence[Named], num_blocks: int, draw: random.Random) -> list[list[Named]]:
    count, half = len(names), len(names) // 2
    orders: list[list[Named]] = []
    if num_blocks % 2:
        first = draw.sample(names, count)
        orders.append(first)
        if num_blocks > 1:
            second = {name: (place + half) % count for place, name in enumerate(first)}
            third = sorted(names, key=lambda name: -(first.index(name) + second[name]))
            orders += [sorted(names, key=second.__getitem__), third]
    while len(orders) < num_blocks:
        order = draw.sample(names, count)
        orders += [order, order[::-1]]
    return orders


def turn_groups(cells: Sequence[CellKey]) -> list[list[CellKey]]:
    """Cells that are measured together, in their order: at concurrency 1 those of a block's point, else each alone."""
    groups: list[list[CellKey]] = []
    for cell in cells:
        before = groups[-1][0] if groups else None
        if before is not None and cell.concurrency == 1 and cell.model_copy(update={"arm": before.arm}) == before:
            groups[-1].append(cell)
        else:
            groups.append([cell])
    return groups


def turn_orders(cell: CellKey, num_arms: int, num_prompts: int, seed: int) -> list[list[int]]:
    """For each prompt the order in which arms have their turns, balanced as the orders of blocks are.

    Args:
        cell: one of the group's, whichever; launch, block and workload tell groups apart.
    """
    draw = random.Random(f"{seed} {cell.launch} {cell.block} {cell.workload}")
    return _balanced(range(num_arms), num_prompts, draw)


@dataclass(frozen=True)
class Estimate:
    """What a run will cost at most.

    Attributes:
        basis: at which speed, and where that is from.
        launch_s: of the time, what each of the launches takes; the rest is the reference pass.
    """

    num_cells: int
    num_requests: int | None
    time_s: float | None
    basis: str = ""
    num_launches: int = 1
    launch_s: float = 0.0

    def __str__(self) -> str:
        if self.time_s is None:
            return f"{self.num_cells} cells; time unknown (a workload without num_prompts)"
        return (
            f"{self.num_cells} cells, {self.num_requests} requests; at most about {duration(self.time_s)} {self.basis}"
        )

    def with_launches(self, num_launches: int) -> Estimate:
        """The same suite with another number of launches."""
        assert self.time_s is not None
        more = num_launches - self.num_launches
        return replace(self, num_launches=num_launches, time_s=self.time_s + more * self.launch_s)

    def on(self, devices: int) -> tuple[float, int]:
        """Seconds with so many devices, each taking whole launches, and how many of them have work."""
        assert self.time_s is not None
        busy = min(devices, self.num_launches)
        rest_s = self.time_s - self.num_launches * self.launch_s
        return rest_s + math.ceil(self.num_launches / busy) * self.launch_s, busy


def estimate(suite: Suite, seen: PastSpeed | None = None) -> Estimate:
    """Upper estimate: every output as long as it may be, every arm as fast as vanilla.

    Args:
        seen: how fast the target was in an earlier run here; else the tiny target's speed is taken, which is said.
    """
    tokens_per_s = CPU_TOKENS_PER_S if seen is None else seen.tokens_per_s
    cells = len(plan_cells(suite))
    num_engines = sum(not arm.is_endpoint for arm in suite.arms)
    seed = suite.sampling.seed
    counts = [workload.tune_prompts or workload.num_prompts or _whole(workload, seed) for workload in suite.workloads]
    if any(count is None for count in counts):
        return Estimate(cells, None, None)
    rounds = num_launches(suite) * suite.blocks_per_launch * len(suite.arms)
    time_s, reference_s, num_requests = ENGINE_START_S * num_launches(suite) * num_engines, 0.0, 0
    for count, workload in zip(counts, suite.workloads, strict=True):
        tokens = (count or 0) * (workload.max_tokens or suite.sampling.max_tokens)
        time_s += tokens / tokens_per_s
        reference_s += tokens / tokens_per_s
        for point in suite.load:
            own = math.ceil((count or 0) / suite.blocks_per_launch) if suite.block_prompts == "fresh" else count or 0
            asked = min(own, point.num_prompts or own)
            sent, span_s = _arrivals(point, workload, asked, suite.sampling.seed)
            num_requests += rounds * sent
            time_s += rounds * max(span_s, tokens * sent / (count or 1) / tokens_per_s)
    launch_s = (time_s - reference_s) / num_launches(suite)
    return Estimate(cells, num_requests, time_s, _basis(suite, seen), num_launches(suite), launch_s)


def _basis(suite: Suite, seen: PastSpeed | None) -> str:
    if seen is not None:
        return f"({seen.tokens_per_s:.0f} tokens/s, as vanilla had here in {seen.folder})"
    known = f"{CPU_TOKENS_PER_S:.0f} tokens/s, as the tiny target has on two CPU cores"
    if suite.target.model == "tiny":
        return f"({known})"
    return f"if {suite.target.model} made {known}: it has not run here yet, and its own speed decides"


def _arrivals(point: LoadPoint, workload: Workload, num_prompts: int, seed: int) -> tuple[int, float]:
    """Requests of a cell, and the seconds over which they arrive."""
    if point.trace is not None:
        times = read_trace(Path(point.trace))
    else:
        times = arrival_times(point, workload.name, num_prompts, seed) or (0.0,) * num_prompts
    return len(times), times[-1]


def _whole(workload: Workload, seed: int) -> int | None:
    """Prompts of a whole set or file; None where that is not known before the target's tokenizer is here."""
    if workload.path is None:
        return SOURCES[workload.source].num_prompts
    if workload.source in COUNTED and workload.tokenizer is None:
        return None
    try:
        return len(load_workload(workload, seed))
    except HarnessError:
        return None  # what is wrong with it is told elsewhere
