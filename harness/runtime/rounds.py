"""Inside the scheduler process: writes every verify step and its phase times as it happens.

One line per event, appended unbuffered, so that whatever the client has received is already on disk:

    r <request id> <accepted drafts>            one verify step of one request, bonus token excluded
    p <draft ns> <verify ns> <extend ns> <round ns>   one round of the whole batch (CPU only)

`Req.update_spec_correct_drafts_histogram` is where SGLang 0.5.17 settles a request's verify step: it knows the request
and is not called for requests that have already finished (managers/scheduler_components/batch_result_processor.py).
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any


class RoundLog:
    """The append-only file of one engine's rounds; lives as long as the scheduler process."""

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)

    def accepted(self, request_id: str, num_accepted_drafts: int) -> None:
        """Write one verify step of one request."""
        os.write(self._descriptor, f"r {request_id} {num_accepted_drafts}\n".encode())

    def phases(self, draft_ns: int, verify_ns: int, extend_ns: int, round_ns: int) -> None:
        """Write one round's wall times."""
        os.write(self._descriptor, f"p {draft_ns} {verify_ns} {extend_ns} {round_ns}\n".encode())


def record_accepted_drafts(log: RoundLog) -> None:
    """Make SGLang's requests report each of their verify steps to the log."""
    from sglang.srt.managers.schedule_batch import Req

    original = Req.update_spec_correct_drafts_histogram

    def update(request: Any, num_correct_drafts: int, *args: Any, **kwargs: Any) -> Any:
        log.accepted(request.rid, num_correct_drafts)
        return original(request, num_correct_drafts, *args, **kwargs)

    Req.update_spec_correct_drafts_histogram = update


def phase_calls(worker: Any) -> list[tuple[str, Any, str]]:
    """Which calls of a speculative worker make up which phase: phase, object, method.

    SGLang's n-gram worker has no draft worker; its sampling stands outside these calls and counts as other.
    """
    drafts = worker.draft_worker
    if drafts is None:
        return [
            ("draft", worker, "_prepare_for_speculative_decoding"),
            ("verify", worker.target_worker, "forward_batch_generation"),
            ("extend", worker, "_update_ngram_corpus"),
        ]
    return [
        ("draft", drafts, "draft"),
        ("verify", worker, "verify"),
        ("extend", drafts, "_draft_extend_for_decode"),
    ]


def record_phases(log: RoundLog, worker: Any) -> None:
    """Time the phases of each round by the wall clock.

    Wraps the methods of these very instances, because subclasses override what a hook on the base class would wrap.
    On a GPU the calls return before their kernels end, so wall times would mislead: there nothing is wrapped.
    """
    spent = {"draft": 0, "verify": 0, "extend": 0}

    def timed(phase: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def measure(*args: Any, **kwargs: Any) -> Any:
            began = time.perf_counter_ns()
            try:
                return call(*args, **kwargs)
            finally:
                spent[phase] += time.perf_counter_ns() - began

        return measure

    for phase, owner, name in phase_calls(worker):
        setattr(owner, name, timed(phase, getattr(owner, name)))
    forward = worker.forward_batch_generation

    def round_(batch: Any, *args: Any, **kwargs: Any) -> Any:
        if batch.forward_mode.is_extend() or batch.is_extend_in_batch:
            return forward(batch, *args, **kwargs)
        spent.update(draft=0, verify=0, extend=0)
        began = time.perf_counter_ns()
        result = forward(batch, *args, **kwargs)
        log.phases(spent["draft"], spent["verify"], spent["extend"], time.perf_counter_ns() - began)
        return result

    worker.forward_batch_generation = round_
