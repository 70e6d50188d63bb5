"""One row of a report: the figures of an arm on one workload at one load point."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict


class Row(BaseModel):
    """results.csv has the fields down to `reason`, in this order; results.json has all of them."""

    model_config = ConfigDict(frozen=True)

    arm: str
    architecture: str
    workload: str
    load: str
    concurrency: int | None
    offered_per_s: float | None
    temperature: float
    num_requests: int
    num_failed: int
    acceptance_length: float | None
    output_tokens_per_s: float | None
    speedup: float | None
    speedup_low: float | None
    speedup_high: float | None
    ttft_s: float | None
    tpot_s: float | None
    itl_chunk_s: float | None
    itl_token_s: float | None
    latency_s: float | None
    latency_ratio: float | None
    latency_ratio_low: float | None
    latency_ratio_high: float | None
    steady_tokens_per_s: float | None
    goodput_per_s: float | None
    within_limits: float | None
    step_cost_ratio: float | None
    lossless_share: float | None
    joules_per_token: float | None
    net_joules_per_token: float | None
    valid: bool
    reason: str
    detail: dict[str, Any]


def is_simulated(row: Row) -> bool:
    """Whether the row's acceptance was drawn, not measured."""
    return row.detail.get("simulated_acceptance") is not None


def rows_as_json(rows: Sequence[Row]) -> str:
    """results.json: the same rows with their details, stable byte for byte."""
    return json.dumps([row.model_dump() for row in rows], indent=1, ensure_ascii=False) + "\n"
