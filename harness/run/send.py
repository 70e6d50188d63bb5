"""Sends prompts to one engine, with a suite's sampling, for whatever the answers are wanted."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Any

from draftbench.harness.engine import Engine
from draftbench.harness.errors import HarnessError
from draftbench.harness.load.generator import RoundBook, run_closed_loop, run_open_loop
from draftbench.harness.load.limits import Watch
from draftbench.harness.load.requests import Prompt
from draftbench.harness.records import CellKey, RequestRecord
from draftbench.harness.suite import Suite

LAST_WORDS_S = 3.0
"""How long an engine that dies may take to be seen dead."""


def sampling_parameters(suite: Suite, greedy: bool = False) -> dict[str, Any]:
    """SGLang's sampling parameters for a suite; the reference pass is always greedy.

    Outputs of arms whose acceptance is simulated have no stop token, so then nobody heeds one.
    """
    stops = {"ignore_eos": True} if suite.simulates else {}
    if greedy or suite.sampling.temperature == 0:
        return {"temperature": 0.0, **stops}
    return {
        **stops,
        "temperature": suite.sampling.temperature,
        "top_p": suite.sampling.top_p,
        "top_k": suite.sampling.top_k,
    }


def run_loop(
    engine: Engine,
    cell: CellKey,
    prompts: Sequence[Prompt],
    sampling: dict[str, Any],
    on_record: Callable[[RequestRecord], None],
    arrivals_s: Sequence[float] | None = None,
    watch: Watch | None = None,
) -> RoundBook:
    """Send prompts, hand over each record, and return what the engine recorded of them.

    Args:
        arrivals_s: when each prompt is sent, in an open loop.
        watch: over the engine's silence.
    """
    book = RoundBook(engine)
    try:
        if arrivals_s is None:
            asyncio.run(run_closed_loop(engine, cell, prompts, sampling, book, on_record, watch))
        else:
            asyncio.run(run_open_loop(engine, cell, prompts, arrivals_s, sampling, book, on_record, watch))
    except* HarnessError as group:
        raise group.exceptions[0] from None
    return book


def why(engine: Engine, record: RequestRecord) -> str | None:
    """How a request failed: by the engine's own last words where it died, which takes it a moment."""
    deadline = time.monotonic() + LAST_WORDS_S
    while (words := engine.failure()) is None and time.monotonic() < deadline:
        time.sleep(0.05)
    return words or record.error
