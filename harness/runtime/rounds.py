"""Inside the scheduler process: tells every verify step and its phase times as it happens (events.py has the lines).

`Req.update_spec_correct_drafts_histogram` is where SGLang 0.5.17 settles a request's verify step: it knows the request
and is not called for requests that have already finished (managers/scheduler_components/batch_result_processor.py).
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from draftbench.harness.runtime.events import RoundLog

PHASES = ("draft", "verify", "extend")


class Clock(Protocol):
    """Marks points in the engine's work and tells the time between them."""

    def mark(self) -> Any:
        """Now, in the order of the work given to the device."""

    def settle(self, spans: Sequence[tuple[Any, Any]], write: Callable[..., None]) -> None:
        """Call `write` with the spans' nanoseconds, now or as soon as they are known; must not wait."""


class WallClock:
    """For the CPU, where a call returns when its work is done."""

    def mark(self) -> int:
        """Nanoseconds of a monotonic clock."""
        return time.perf_counter_ns()

    def settle(self, spans: Sequence[tuple[int, int]], write: Callable[..., None]) -> None:
        """Write at once."""
        write(*(end - begin for begin, end in spans))


class EventClock:
    """For a GPU, where a call returns before its kernels end: CUDA events, read by a thread that waits for them."""

    def __init__(self, new_event: Callable[[], Any]) -> None:
        """`new_event` makes an event that can be timed: `torch.cuda.Event(enable_timing=True)`."""
        self._new_event = new_event
        self._pending: queue.SimpleQueue[tuple[Sequence[tuple[Any, Any]], Callable[..., None]]] = queue.SimpleQueue()
        threading.Thread(target=self._read, name="draftbench-phases", daemon=True).start()

    def mark(self) -> Any:
        """An event recorded on the current stream."""
        event = self._new_event()
        event.record()
        return event

    def settle(self, spans: Sequence[tuple[Any, Any]], write: Callable[..., None]) -> None:
        """Hand the spans to the thread."""
        self._pending.put((spans, write))

    def _read(self) -> None:
        while True:
            spans, write = self._pending.get()
            for _, end in spans:
                end.synchronize()
            write(*(round(begin.elapsed_time(end) * 1e6) for begin, end in spans))


def clock_of(device: str) -> Clock:
    """The clock for SGLang's device name."""
    if device == "cpu":
        return WallClock()
    import torch

    return EventClock(lambda: torch.cuda.Event(enable_timing=True))


def record_accepted_drafts(log: RoundLog, steps_change: bool) -> None:
    """Make SGLang's requests report each of their verify steps to the log.

    Args:
        steps_change: the number of draft steps is not the same in every round. SGLang notes a round's size on its
            result (managers/scheduler_components/batch_result_processor.py, 0.5.17).
    """
    from sglang.srt.managers.schedule_batch import Req
    from sglang.srt.managers.scheduler_components.batch_result_processor import SchedulerBatchResultProcessor

    original = Req.update_spec_correct_drafts_histogram
    nodes: list[int] = []

    def update(request: Any, num_correct_drafts: int, *args: Any, **kwargs: Any) -> Any:
        log.accepted(request.rid, num_correct_drafts, *nodes)
        return original(request, num_correct_drafts, *args, **kwargs)

    Req.update_spec_correct_drafts_histogram = update
    if not steps_change:
        return
    settle = SchedulerBatchResultProcessor._resolve_spec_v2_tokens

    def settle_round(processor: Any, result: Any, *args: Any, **kwargs: Any) -> Any:
        nodes[:] = [result.speculative_num_draft_tokens - 1]
        return settle(processor, result, *args, **kwargs)

    SchedulerBatchResultProcessor._resolve_spec_v2_tokens = settle_round


def phase_calls(worker: Any) -> list[tuple[str, Any, str]]:
    """Which calls of a speculative worker make up which phase: phase, object, method.

    SGLang's n-gram worker, and ours for proposers, have no draft worker; sampling stands outside these calls and counts
    as other.
    """
    drafts = worker.draft_worker
    if hasattr(worker, "draft_model_runner"):  # a block in one pass
        return [
            ("draft", worker.draft_model_runner, "forward"),
            ("verify", worker.target_worker, "forward_batch_generation"),
            ("extend", worker, "_append_target_hidden_to_draft_kv_by_loc"),
        ]
    if drafts is None:
        extend = "observe" if hasattr(worker, "observe") else "_update_ngram_corpus"
        return [
            ("draft", worker, "_prepare_for_speculative_decoding"),
            ("verify", worker.target_worker, "forward_batch_generation"),
            ("extend", worker, extend),
        ]
    return [
        ("draft", drafts, "draft"),
        ("verify", worker, "verify"),
        ("extend", drafts, "_draft_extend_for_decode"),
    ]


def record_phases(log: RoundLog, worker: Any, clock: Clock) -> None:
    """Time the phases of each round, and the round.

    Wraps the methods of these very instances, because subclasses override what a hook on the base class would wrap.
    A phase that a round does not have takes no time. A worker that may propose nothing says so in `proposed_nothing`.
    """
    spans: dict[str, tuple[Any, Any]] = {}

    def timed(phase: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def measure(*args: Any, **kwargs: Any) -> Any:
            began = clock.mark()
            result = call(*args, **kwargs)
            spans[phase] = (began, clock.mark())
            return result

        return measure

    for phase, owner, name in phase_calls(worker):
        setattr(owner, name, timed(phase, getattr(owner, name)))
    forward = worker.forward_batch_generation

    def round_(batch: Any, *args: Any, **kwargs: Any) -> Any:
        if batch.forward_mode.is_extend() or batch.is_extend_in_batch:
            return forward(batch, *args, **kwargs)
        spans.clear()
        began = clock.mark()
        result = forward(batch, *args, **kwargs)
        ended = clock.mark()
        if getattr(worker, "proposed_nothing", False):
            log.empty()
        clock.settle([*(spans.get(phase, (ended, ended)) for phase in PHASES), (began, ended)], log.phases)
        return result

    worker.forward_batch_generation = round_
