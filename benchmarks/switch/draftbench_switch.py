"""A plugin for `overhead.py`: an engine that records the rounds of a request or not, as the request's id says.

What recording costs can so be told within one engine, where nothing else differs.
"""

from __future__ import annotations

import os
from typing import Any

UNRECORDED = "unrecorded"
"""How the workload is called whose requests are not recorded; request ids carry it."""


def activate() -> None:
    """Put a switch around draftbench's recorder, in an engine that draftbench has started."""
    if "DRAFTBENCH_ENGINE_FOLDER" not in os.environ:
        return
    from draftbench.harness.runtime import rounds
    from draftbench.harness.runtime.events import RoundLog

    record_accepted_drafts, record_phases = rounds.record_accepted_drafts, rounds.record_phases

    def switched_drafts(log: RoundLog, steps_change: bool) -> None:
        from sglang.srt.managers.schedule_batch import Req

        plain = Req.update_spec_correct_drafts_histogram
        record_accepted_drafts(log, steps_change)
        recorded = Req.update_spec_correct_drafts_histogram

        def update(request: Any, *args: Any, **kwargs: Any) -> Any:
            return (plain if UNRECORDED in request.rid else recorded)(request, *args, **kwargs)

        Req.update_spec_correct_drafts_histogram = update

    def switched_phases(log: RoundLog, worker: Any, clock: rounds.Clock) -> None:
        calls = [*rounds.phase_calls(worker), ("round", worker, "forward_batch_generation")]
        plain = [getattr(owner, name) for _, owner, name in calls]
        record_phases(log, worker, clock)
        recorded = [getattr(owner, name) for _, owner, name in calls]

        def round_(batch: Any, *args: Any, **kwargs: Any) -> Any:
            chosen = plain if UNRECORDED in batch.reqs[0].rid else recorded
            for (_, owner, name), call in zip(calls[:-1], chosen[:-1], strict=True):
                setattr(owner, name, call)
            return chosen[-1](batch, *args, **kwargs)

        worker.forward_batch_generation = round_

    rounds.record_accepted_drafts, rounds.record_phases = switched_drafts, switched_phases
