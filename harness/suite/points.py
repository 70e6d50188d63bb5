"""How requests are sent, how often, and within which limits."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field, model_validator

from draftbench.harness.suite.fields import Count, Finite, PathText, Positive
from draftbench.harness.suite.strict_yaml import Section

OPEN_LOOP_REQUESTS = 48
"""Requests that an engine may run at once in an open loop where the suite does not say it; SGLang's own limit with a
draft."""


class Auto(Section):
    """When a run with `blocks: auto` has enough launches."""

    half_width: Annotated[float, Field(gt=0, lt=1)] = Field(
        description="Wanted half of every speedup's interval, as a share: 0.02 for ±2%."
    )
    time_limit_s: Positive = Field(description="No launch starts when so many seconds have passed since this start.")


class LoadPoint(Section):
    """How requests are sent: so many at once, or at times that do not wait for any answer (an open loop)."""

    concurrency: Count | None = Field(None, description="Closed loop: requests under way at once.")
    rate: Finite | None = Field(
        None, description="Open loop: requests a second on average, at random times (Poisson) drawn from the seed."
    )
    burst: Annotated[int, Field(ge=2, le=100_000)] | None = Field(
        None, description="With rate: so many requests arrive together, at the same mean rate."
    )
    trace: PathText | None = Field(None, description="Open loop: JSONL of arrival times, relative to the suite.")
    num_prompts: Count | None = Field(None, description="Of each workload's prompts, the first so many; all of them.")

    @property
    def name(self) -> str:
        """`c=8`, `4/s`, `4/s by 8` or `trace chat`, as cells and tables have it."""
        if self.trace is not None:
            return f"trace {Path(self.trace).stem}"
        if self.rate is not None:
            return f"{self.rate:g}/s" + ("" if self.burst is None else f" by {self.burst}")
        return f"c={self.concurrency}"

    @property
    def is_open(self) -> bool:
        """Whether requests are sent at times of their own."""
        return self.concurrency is None

    @model_validator(mode="after")
    def _is_of_one_kind(self) -> LoadPoint:
        given = [name for name in ("concurrency", "rate", "trace") if getattr(self, name) is not None]
        if len(given) != 1:
            found = " and ".join(given) or "none of them"
            raise ValueError(f"a load point has one of concurrency, rate and trace; found {found}")
        if self.burst is not None and self.rate is None:
            raise ValueError(f"burst says how requests at a rate arrive; it means nothing with {given[0]}")
        return self


class Limits(Section):
    """What a user still takes as served: goodput counts the requests that meet every limit given."""

    ttft_ms: Finite | None = Field(None, description="Longest time to the first token.")
    tpot_ms: Finite | None = Field(None, description="Longest mean time per later token.")

    @model_validator(mode="after")
    def _has_one(self) -> Limits:
        if self.ttft_ms is None and self.tpot_ms is None:
            raise ValueError("limits holds none; give ttft_ms, tpot_ms or both")
        return self
