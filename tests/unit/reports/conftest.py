"""A small run, made by hand."""

from __future__ import annotations

import pytest

from draftbench.harness.host.provenance import suite_sha256
from draftbench.harness.manifest import Manifest
from draftbench.harness.records import ReferenceRecord
from draftbench.harness.store import RunStore
from tests.fakes.known import suite_object

SUITE = suite_object(
    [
        {"name": "vanilla", "architecture": "vanilla"},
        {"name": "eagle", "architecture": "eagle", "num_steps": 3, "topk": 1, "num_draft_tokens": 4},
        {"name": "hass", "architecture": "eagle", "num_steps": 3, "topk": 1, "num_draft_tokens": 4},
    ]
)
MANIFEST = {"version": 1, "suite": SUITE, "suite_sha256": suite_sha256(SUITE), "finished": True}


@pytest.fixture
def run(tmp_path, request_record, cell_record):
    """Two blocks in which eagle takes 20 ms after the first chunk, hass 21, vanilla 50."""
    store = RunStore.create(tmp_path, Manifest.of(MANIFEST))
    passes = {"workload": "w", "prompt_id": "p", "turn": 0, "prompt_sha256": "h", "finish_reason": "length"}
    store.append(ReferenceRecord(**passes, prompt_ids=(11111, 22222), output_ids=(0, 1, 2, 3)))
    for block in range(2):
        for arm, end, accepted in (("vanilla", 60, None), ("eagle", 30 + block, (2,)), ("hass", 31 - block, (2,))):
            record = request_record(((10, 1), (end, 3)), accepted, arm=arm, block=block)
            store.append(record)
            store.append(cell_record(record))
    return tmp_path
