"""Records by hand: short ways to write the requests and cells of a test."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pytest

from draftbench.harness.records import CellKey, CellRecord, Chunk, RequestRecord, Round

MS = 1_000_000
# Read where torch is imported, here and in child processes: two threads spin while they wait for each other where other
# programs run too, and nothing in the tests is large enough to need both.
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture
def request_record() -> Callable[..., RequestRecord]:
    """A finished request: sent at 0, its chunks at the given milliseconds with the given token counts."""

    def make(
        chunks: tuple[tuple[int, int], ...] = ((10, 1), (30, 3)),
        accepted: tuple[int, ...] | None = (2,),
        *,
        arm: str = "eagle",
        block: int = 0,
        launch: int = 0,
        sent_ms: int = 0,
        **changes: Any,
    ) -> RequestRecord:
        num_tokens = sum(count for _, count in chunks)
        fields: dict[str, Any] = {
            "cell": CellKey(launch=launch, block=block, arm=arm, workload="w", concurrency=1),
            "request_id": f"{arm}-{block}-{sent_ms}",
            "prompt_id": "p",
            "turn": 0,
            "category": None,
            "prompt_sha256": "h",
            "num_prompt_tokens": 5,
            "num_cached_tokens": 0,
            "sent_ns": sent_ms * MS,
            "chunks": tuple(Chunk(at_ns=at * MS, num_tokens=count) for at, count in chunks),
            "finished_ns": (chunks[-1][0] if chunks else sent_ms) * MS,
            "output_ids": tuple(range(num_tokens)),
            "finish_reason": "length",
            "rounds": None
            if accepted is None
            else tuple(Round(num_accepted_drafts=a, num_proposed_drafts=5) for a in accepted),
            "engine_verify_ct": None if accepted is None else len(accepted),
            "engine_accept_length": None,
            "error": None,
        }
        return RequestRecord(**{**fields, **changes})

    return make


@pytest.fixture
def cell_record() -> Callable[..., CellRecord]:
    """The seal of the cell that a request belongs to."""

    def make(request: RequestRecord, **changes: Any) -> CellRecord:
        fields: dict[str, Any] = {
            "cell": request.cell,
            "started_ns": 0,
            "finished_ns": 1,
            "num_requests": 1,
            "num_failed": 0,
            "phases": None,
            "error": None,
        }
        return CellRecord(**{**fields, **changes})

    return make
