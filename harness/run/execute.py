"""Running a plan, cell after cell or in turns: start, warm up, flush, measure, drain, seal."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from draftbench.harness.engine import Engine
from draftbench.harness.errors import HarnessError
from draftbench.harness.load.arrivals import arrival_times
from draftbench.harness.load.counters import CounterReading, counters_between, settled
from draftbench.harness.load.generator import RoundBook, Turn, run_turns
from draftbench.harness.load.limits import SILENCE_S, Watch
from draftbench.harness.load.requests import Prompt
from draftbench.harness.records import CellKey, CellRecord, RequestRecord, ServedCounters
from draftbench.harness.run.plan import turn_groups, turn_orders
from draftbench.harness.run.pool import EnginePool
from draftbench.harness.run.progress import Progress
from draftbench.harness.run.rendered import sent_in
from draftbench.harness.run.samples import sample_continuations
from draftbench.harness.run.send import run_loop, sampling_parameters
from draftbench.harness.run.updates import DraftUpdates
from draftbench.harness.store import RunStore
from draftbench.harness.suite import Suite
from draftbench.harness.suite.device_arguments import gpus_in_use
from draftbench.harness.telemetry.sampler import Sampler, open_sampler
from draftbench.harness.telemetry.window import Window
from draftbench.harness.telemetry.window_records import WindowRecord

OPEN_LOOP_WARMUP = 8
"""Requests at once that warm an engine up for an open loop."""


def run_cells(
    engines: Mapping[CellKey, Engine],
    prompts: Sequence[Prompt],
    suite: Suite,
    store: RunStore,
    progress: Progress,
    sampler: Sampler | None,
) -> None:
    """Measure and seal one cell, or cells whose arms take turns prompt by prompt; their engines rest until then.

    Requests that fail are records; an engine that dies fails its cell. A trace sends as many prompts as it has
    arrivals, the first ones.
    """
    first = next(iter(engines))
    point = next(point for point in suite.load if point.name == first.load)
    arrivals_s = arrival_times(point, first.workload, len(prompts), suite.sampling.seed)
    if arrivals_s is not None:
        prompts = prompts[: len(arrivals_s)]
    sampling = sampling_parameters(suite)
    failed: Counter[CellKey] = Counter()
    delivered: Counter[CellKey] = Counter()
    watched = {cell: Watched(engine, sampler) for cell, engine in engines.items()}
    silence = {cell: Watch(cell.arm, progress.note, SILENCE_S) for cell in engines}
    counted = {cell: settled(engine.counters) for cell, engine in engines.items()}

    def keep(record: RequestRecord) -> None:
        failed[record.cell] += record.error is not None
        delivered[record.cell] += 0 if record.error is not None else record.num_output_tokens
        store.append(record)
        progress.request_done(record)

    progress.begin_cells(tuple(engines), len(prompts))
    started_ns = time.monotonic_ns()
    if len(engines) == 1:
        engines[first].wake()
        watched[first].begin()
        books = {first: run_loop(engines[first], first, prompts, sampling, keep, arrivals_s, silence[first])}
        watched[first].pause()
    else:
        books = {cell: RoundBook(engine) for cell, engine in engines.items()}
        turns = [
            Turn(cell, engines[cell], books[cell], watched[cell].begin, watched[cell].pause, silence[cell])
            for cell in engines
        ]
        orders = turn_orders(first, len(turns), len(prompts), suite.sampling.seed)
        asyncio.run(run_turns(turns, orders, prompts, sampling, keep))
    finished_ns = time.monotonic_ns()
    for cell, engine in engines.items():
        if (window := watched[cell].record(cell)) is not None:
            store.append(window)
        sealed = CellRecord(
            cell=cell,
            started_ns=started_ns,
            finished_ns=finished_ns,
            num_requests=len(prompts),
            num_failed=failed[cell],
            phases=books[cell].phases(),
            graphs=books[cell].graphs(),
            served=_served(engine, counted[cell], len(prompts), failed[cell], delivered[cell]),
            sampling=sampling,
            session=store.session,
            error=engine.failure(),
        )
        store.append(sealed)
        progress.end_cell(sealed)


def _served(
    engine: Engine, before: CounterReading | None, num_requests: int, num_failed: int, num_tokens: int
) -> ServedCounters | None:
    """What the server's own counters say of a cell; None where it has none."""
    if before is None:
        return None
    requests, tokens = before.requests + num_requests, before.tokens + num_tokens
    after = settled(engine.counters, lambda now: now.requests >= requests and now.tokens >= tokens)
    return counters_between(before, after, num_requests, num_failed, num_tokens)


class Watched:
    """A cell's window of telemetry, open while the cell has its turn."""

    def __init__(self, engine: Engine, sampler: Sampler | None) -> None:
        self._engine, self._sampler = engine, sampler
        self._window: Window | None = None

    def begin(self) -> None:
        """Watch; an endpoint's processes are not ours to watch."""
        if self._sampler is None or self._engine.pid is None:
            return
        if self._window is None:
            self._sampler.begin(self._engine.pid)
        else:
            self._sampler.resume(self._window)

    def pause(self) -> None:
        """Look away."""
        if self._sampler is not None and self._engine.pid is not None:
            self._window = self._sampler.pause()

    def record(self, cell: CellKey) -> WindowRecord | None:
        """What was seen; None where nothing was watched."""
        return None if self._window is None else self._window.close(cell.launch, cell.arm, cell)


def warm_up(
    engine: Engine,
    arm: str,
    concurrency: int | None,
    prompts: Sequence[Prompt],
    suite: Suite,
    note: Callable[[str], None] | None = None,
) -> None:
    """Send unmeasured requests at the concurrency to be measured: no cell pays what only the first one pays."""
    concurrency = concurrency or min(OPEN_LOOP_WARMUP, suite.running_requests)
    count = max(suite.warmup_requests, concurrency) if suite.warmup_requests else 0
    repeated = [prompts[index % len(prompts)] for index in range(count)]
    cell = CellKey(launch=0, block=-100, arm=arm, workload="warmup", concurrency=concurrency)
    run_loop(engine, cell, repeated, sampling_parameters(suite), lambda record: None, watch=Watch(arm, note))


def make_ready(
    engine: Engine,
    cell: CellKey,
    prompts: Sequence[Prompt],
    suite: Suite,
    store: RunStore,
    sampler: Sampler | None,
    note: Callable[[str], None] | None = None,
) -> None:
    """Warm an engine up for a cell; the launch's first one is then watched at rest, and warmed up again.

    Seconds without work let a GPU's clocks fall, and the first cell alone would pay for that.
    """
    warm_up(engine, cell.arm, cell.concurrency, prompts, suite, note)
    if sampler is None or engine.pid is None:
        return
    if (rest := sampler.rest(cell.launch, cell.arm, engine.pid)) is not None:
        store.append(rest)
        warm_up(engine, cell.arm, cell.concurrency, prompts, suite, note)


def run_launch(
    cells: Sequence[CellKey],
    prompts: Mapping[str, Sequence[Prompt]],
    suite: Suite,
    pool: EnginePool,
    store: RunStore,
    progress: Progress,
    open_prompts: Sequence[Prompt] = (),
    updates: DraftUpdates | None = None,
) -> None:
    """Run one launch's cells on its engines, which are started in the order of its first block.

    An arm whose engine cannot start or dies fails its cells, with the reason, and the run goes on.

    Args:
        open_prompts: what every arm samples continuations of, once.
        updates: of arms whose drafts are updated between blocks.
    """
    warm: dict[tuple[str, str], Engine] = {}
    arms = tuple(dict.fromkeys(cell.arm for cell in cells))
    with open_sampler(suite.telemetry_period_s, gpus_in_use(suite)) as sampler:
        pool.start_all(arms)
        by_turns = suite.turns == "prompts" and pool.holds(arms)
        for group in turn_groups(cells) if by_turns else [[cell] for cell in cells]:
            engines: dict[CellKey, Engine] = {}
            sent = sent_in(suite, group[0], prompts[group[0].workload])

            def fail(cell: CellKey, error: HarnessError, num_requests: int = len(sent)) -> None:
                failed = _failed_cell(cell, str(error), num_requests, store.session)
                store.append(failed)
                progress.end_cell(failed)

            for cell in group:
                try:
                    engine = pool.get(cell.arm)
                    if updates is not None and updates.ready(cell, engine, prompts):
                        warm = {key: other for key, other in warm.items() if other is not engine}
                    if warm.get((cell.arm, cell.load)) is not engine:
                        make_ready(engine, cell, sent, suite, store, sampler, progress.note)
                        warm[(cell.arm, cell.load)] = engine
                    waits = updates is not None and updates.samples_wait(cell)
                    if open_prompts and engine.gives_token_ids and not waits:
                        sample_continuations(engine, cell.arm, open_prompts, suite, store, progress)
                    asyncio.run(engine.flush())
                    engines[cell] = engine
                except HarnessError as error:
                    fail(cell, error)
            pool.rest()
            try:
                if engines:
                    run_cells(engines, sent, suite, store, progress, sampler)
            except HarnessError as error:  # the engine of a cell that is measured alone
                for cell in engines:
                    fail(cell, error)
    store.note_engines({name: receipt for name, receipt in pool.receipts.items() if name in arms})


def _failed_cell(cell: CellKey, reason: str, num_requests: int, session: int) -> CellRecord:
    now = time.monotonic_ns()
    return CellRecord(
        cell=cell,
        started_ns=now,
        finished_ns=now,
        num_requests=num_requests,
        num_failed=num_requests,
        phases=None,
        session=session,
        error=reason,
    )
