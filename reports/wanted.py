"""How many launches the wanted intervals of a suite take, from how far apart a run's launches were."""

from __future__ import annotations

from collections.abc import Iterator

from draftbench.harness.errors import RecordError
from draftbench.harness.metrics.needed_launches import MOST_LAUNCHES, Wanted, launches_for, most
from draftbench.harness.metrics.overall import overall
from draftbench.harness.metrics.ratios import MIN_LAUNCHES
from draftbench.harness.suite import Suite
from draftbench.reports.files import Run

HEADERS = ("arm", "workload", "load", "launches there", "spread of a launch", "half of such runs", "nine of ten")
Point = tuple[str, str, str]
"""Arm, workload and load."""


def launches_table(
    run: Run, suite: Suite, half_width: float
) -> tuple[list[str], list[list[str]], dict[str, tuple[int | None, ...]]]:
    """For each speedup of the suite that the run has: the spread there, and the launches that it takes.

    Returns:
        Headers, lines, and the launches after which the intervals over all workloads, and every single one, are as
        narrow.

    Raises:
        RecordError: the run has too few launches, or no valid speedup of the suite's arms.
    """
    if run.manifest.suite.target.model != suite.target.model:
        raise RecordError(
            f"{run.folder} is of the target {run.manifest.suite.target.model}, the suite of {suite.target.model}; give "
            "a run of this target."
        )
    names = {arm.label for arm in suite.arms}, {each.name for each in suite.workloads}, {at.name for at in suite.load}
    found = {point: ratios for point, ratios in _log_ratios(run) if all(map(_is_of, point, names))}
    long = {point: ratios for point, ratios in found.items() if len(ratios) >= MIN_LAUNCHES}
    num_launches = max((row.num_launches for row in run.rows), default=0)
    if num_launches < MIN_LAUNCHES:
        raise RecordError(
            f"{run.folder} has {num_launches} launches; what starts of engines differ by shows from {MIN_LAUNCHES} on. "
            f"Give a run with launches: {MIN_LAUNCHES} or more."
        )
    if not long:
        raise RecordError(f"{run.folder} has no valid speedup of an arm, workload and load of this suite.")
    wanted = {point: launches_for(ratios, half_width) for point, ratios in long.items()}
    lines = [_line(point, each) for point, each in wanted.items()]
    parts = {
        "over all workloads": [each for point, each in wanted.items() if point[1] == OVER_ALL],
        "every interval": list(wanted.values()),
    }
    return list(HEADERS), lines, {part: most(own) for part, own in parts.items() if own}


OVER_ALL = "over all"


def _log_ratios(run: Run) -> Iterator[tuple[Point, tuple[float, ...]]]:
    """Of each arm against the baseline the log ratio of every launch, over all workloads first."""
    baseline = next((row.arm for row in run.rows if row.is_baseline), "")
    for each in overall(run.rows, run.manifest.suite.first_stage):
        if each.is_whole and (ratio := each.against.get(baseline)) is not None:
            yield (each.arm, OVER_ALL, each.load), ratio.units
    for row in run.rows:
        if row.valid and (against := row.against.get(baseline)) is not None:
            yield (row.arm, row.workload, row.load), against.log_ratios


def _is_of(name: str, known: set[str]) -> bool:
    return name == OVER_ALL or name in known


def _line(point: Point, found: Wanted) -> list[str]:
    counts = [f"over {MOST_LAUNCHES}" if count is None else str(count) for count in found.launches]
    return [*point, str(found.num_seen), f"{found.spread:.1%}", *counts]
