"""One run: vanilla's passes, the cells, more launches where the suite leaves that open, scores of differences."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import cached_property
from itertools import groupby

from draftbench.harness.engine import Engine
from draftbench.harness.errors import HarnessError
from draftbench.harness.load.arrivals import arrival_times
from draftbench.harness.load.requests import Prompt
from draftbench.harness.records import CellKey
from draftbench.harness.run.execute import run_launch
from draftbench.harness.run.plan import num_launches, plan_cells, plan_launch
from draftbench.harness.run.pool import EnginePool, Fleet
from draftbench.harness.run.progress import Progress
from draftbench.harness.run.reference import control_pass, reference_pass
from draftbench.harness.run.rendered import check_first_prompts, check_shares, prompts_alone
from draftbench.harness.run.rescores import not_rescored, rescore_outputs
from draftbench.harness.run.samples import open_prompts, score_samples, unscored_samples
from draftbench.harness.run.updates import DraftUpdates
from draftbench.harness.store import RunStore
from draftbench.harness.suite import Suite
from draftbench.harness.workloads.conversations import load_workload
from draftbench.harness.workloads.render import ChatRenderer


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


def checked_renderer(suite: Suite, arms: Fleet, store: RunStore, progress: Progress) -> ChatRenderer:
    """What renders a suite's prompts, which were checked as far as that needs no engine.

    Raises:
        WorkloadError: a trace has too few prompts, or a prompt does not fit.
    """
    renderer = ChatRenderer(arms.target, suite.rendering)
    check_arrivals(suite)
    check_shares(suite)
    longest = check_first_prompts(suite, renderer, arms.context_tokens)
    for name, trained in arms.trained_tokens.items():
        if longest > trained:
            progress.note(
                f"arm {name}: its draft was made for {trained} tokens, and a request may be {longest} long: beyond "
                "it expect worse acceptance; the report says which rows it touches."
            )
    if arms.trained_tokens:
        store.note(trained_tokens=dict(arms.trained_tokens))
    return renderer


class LiveRun:
    """A suite's run into its folder. What the folder holds already is not done again."""

    def __init__(self, suite: Suite, arms: Fleet, store: RunStore, progress: Progress, cold: bool = False) -> None:
        """Check what can be checked before an engine starts.

        Args:
            cold: start every engine as a user's shell would, not forked from a preloaded process.

        Raises:
            WorkloadError: a trace has too few prompts, or a prompt does not fit.
        """
        self._suite, self._arms, self._store, self._progress, self._cold = suite, arms, store, progress, cold
        self._began_s = time.monotonic()
        self.resident = arms.fit_together()
        """Whether all engines of a launch run side by side."""
        if arms.by_name and not cold and store.pending(plan_cells(suite, self.resident)):
            arms.preload()  # imports while we look at the prompts
        self.renderer = checked_renderer(suite, arms, store, progress)
        self._prompts: dict[str, tuple[Prompt, ...]] | None = None
        self._updates = DraftUpdates(suite, arms.updated, arms.target, store, progress.note)

    @cached_property
    def _startable(self) -> Fleet:
        """The arms as their engines are started, which the manifest says."""
        arms = self._arms if self._cold or not self._arms.by_name else self._arms.forking(self._progress.note)
        self._store.note(engine_starts=arms.starts)
        return arms

    def measure(self, cells: Sequence[CellKey], with_samples: bool = True) -> None:
        """Run those cells that are not sealed yet, launch by launch; each launch starts its engines anew.

        The passes of vanilla are made with the engines of the launch that is under way.

        Args:
            with_samples: let the arms sample, at a temperature above 0, what is not recorded yet.
        """
        pending = self._store.pending(cells)
        self._progress.add_cells(len(pending))
        asked = open_prompts(self._suite, self.renderer) if with_samples else ()
        for _, launch in groupby(pending, key=lambda cell: cell.launch):
            with self._startable.pool(self._progress.starting) as pool:
                cells_here = list(launch)
                prompts = self._sent(pool, tuple(dict.fromkeys(cell.arm for cell in cells_here)))
                run_launch(cells_here, prompts, self._suite, pool, self._store, self._progress, asked, self._updates)
                self._score(pool)

    def _sent(self, pool: EnginePool, others: Sequence[str]) -> dict[str, tuple[Prompt, ...]]:
        """What every arm is sent, from the reference pass; what is recorded already needs no engine.

        Args:
            others: arms whose engines may start meanwhile.
        """

        def vanilla() -> Engine:
            assert self._arms.reference is not None
            engine = pool.get(self._arms.reference)
            pool.begin(others)
            return engine

        if self._prompts is None:
            suite, arms, store, progress = self._suite, self._arms, self._store, self._progress
            if arms.reference is None or suite.target.random_weights:
                self._prompts = prompts_alone(suite, self.renderer, arms.context_tokens)
            else:
                found = reference_pass(suite, vanilla, self.renderer, arms.context_tokens, store, progress)
                control_pass(suite, vanilla, found, store, progress)
                self._prompts = found
            progress.passed()
        return self._prompts

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
        """Let the target score what no launch's engine has: greedy outputs that differ from vanilla's, and samples."""
        waits = not_rescored(self._suite, self._store) or unscored_samples(self._suite, self._store)
        if waits and self._arms.reference is not None:
            with self._startable.pool(self._progress.starting) as pool:
                self._score(pool)

    def _score(self, pool: EnginePool) -> None:
        """Where it cannot be done, the report says so."""
        if self._arms.reference is None:
            return
        try:
            if outputs := not_rescored(self._suite, self._store):
                rescore_outputs(pool.get(self._arms.reference), outputs, self._store, self._progress)
            if samples := unscored_samples(self._suite, self._store):
                asked = open_prompts(self._suite, self.renderer)
                target, temperature = pool.get(self._arms.reference), self._suite.sampling.temperature
                score_samples(target, samples, asked, temperature, self._store, self._progress)
        except HarnessError as error:
            what = "outputs that differ" if self._suite.sampling.temperature == 0 else "sampled continuations"
            self._progress.note(f"{what} could not be scored: {error}")
