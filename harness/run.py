"""One run: vanilla's passes, the cells, more launches where the suite leaves that open, scores of differences."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import cached_property, partial

from harness.errors import HarnessError
from harness.execute import run_cells
from harness.load.arrivals import arrival_times
from harness.load.prompts import Prompt
from harness.plan import num_launches, plan_launch
from harness.progress import Progress
from harness.records import CellKey
from harness.reference import (
    control_pass,
    not_rescored,
    open_prompts,
    prompts_alone,
    reference_pass,
    rescore_outputs,
)
from harness.runtime.arms import Arms
from harness.store import RunStore
from harness.suite import Suite
from harness.workloads.load import load_workload
from harness.workloads.render import ChatRenderer


def check_arrivals(suite: Suite) -> None:
    """Find out before anything is started whether every trace has prompts enough.

    Raises:
        WorkloadError: it has not.
    """
    traces = [point for point in suite.load if point.trace is not None]
    for workload in suite.workloads if traces else ():
        num_prompts = sum(len(found.turns) for found in load_workload(workload, suite.sampling.seed))
        for point in traces:
            arrival_times(point, workload.name, num_prompts, suite.sampling.seed)


class LiveRun:
    """A suite's run into its folder. What the folder holds already is not done again."""

    def __init__(self, suite: Suite, arms: Arms, store: RunStore, progress: Progress) -> None:
        self._suite, self._arms, self._store, self._progress = suite, arms, store, progress
        self._began_s = time.monotonic()
        self.renderer = ChatRenderer(arms.target, suite.rendering)
        self.resident = arms.fit_together()
        """Whether all engines of a launch run side by side."""

    @cached_property
    def prompts(self) -> dict[str, tuple[Prompt, ...]]:
        """What every arm is sent, from the reference pass; the control pass is made with the same engine."""
        suite, arms, store, progress = self._suite, self._arms, self._store, self._progress
        check_arrivals(suite)
        if arms.reference is None or suite.target.random_weights:
            return prompts_alone(suite, self.renderer, arms.context_tokens)
        with arms.pool(progress.starting) as pool:
            engine = pool.get(arms.reference)
            found = reference_pass(suite, engine, self.renderer, arms.context_tokens, store, progress)
            control_pass(suite, engine, found, store, progress)
        return found

    def measure(self, cells: Sequence[CellKey]) -> None:
        """Run those cells that are not sealed yet."""
        pending = self._store.pending(cells)
        if pending:
            new_pool = partial(self._arms.pool, self._progress.starting)
            asked = open_prompts(self._suite, self.renderer)
            run_cells(pending, self.prompts, self._suite, new_pool, self._store, self._progress, asked)

    def add_launches(self, wanted: Callable[[float], int]) -> None:
        """Add launches until the intervals are as narrow as the suite asks, or its time is up.

        Args:
            wanted: how many launches it takes in all for a given half width of the log ratios' intervals.
        """
        auto = self._suite.auto
        assert auto is not None
        first = num_launches(self._suite)
        total = wanted(auto.half_width)
        for launch in range(first, total):
            if time.monotonic() - self._began_s > auto.time_limit_s:
                self._progress.note(f"time limit reached after {launch} launches of {total}: intervals stay wider")
                return
            self.measure(plan_launch(self._suite, launch, self.resident))

    def rescore(self) -> None:
        """Let the target score greedy outputs that differ from vanilla's; if it cannot, the report says so."""
        waiting = not_rescored(self._suite, self._store)
        if waiting and self._arms.reference is not None:
            try:
                with self._arms.pool(self._progress.starting) as pool:
                    rescore_outputs(pool.get(self._arms.reference), waiting, self._store, self._progress)
            except HarnessError as error:
                self._progress.note(f"outputs that differ could not be scored: {error}")
