"""Reasons why a row must not be trusted. Each finding names its evidence; an invalid row enters no mean or verdict."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from harness.metrics.acceptance import acceptance_length, disagrees_with_engine, rounds_of
from harness.records import CellRecord, RequestRecord

Severity = Literal["invalid", "warning"]
PromptKey = tuple[str, int]
"""Prompt and turn."""


@dataclass(frozen=True)
class Finding:
    """One gate that a row did not pass."""

    gate: str
    severity: Severity
    evidence: str


def failed_cells(cells: Sequence[CellRecord]) -> Iterable[Finding]:
    """Cells that could not be run to their end; the same reason is told once."""
    reasons = dict.fromkeys(cell.error for cell in cells if cell.error is not None)
    for reason in reasons:
        count = sum(cell.error == reason for cell in cells)
        yield Finding("failed cell", "invalid", f"{count} of {len(cells)} cells: {reason}")


def failures(requests: Sequence[RequestRecord]) -> Iterable[Finding]:
    """Failed requests: what is left may be the easier part."""
    failed = [request for request in requests if request.error is not None]
    if failed:
        evidence = f"{len(failed)} of {len(requests)} requests failed, the first: {failed[0].error}"
        yield Finding("failures", "invalid", evidence)


def silent_non_speculation(requests: Sequence[RequestRecord], drafts: bool) -> Iterable[Finding]:
    """An arm with a draft that never had a draft accepted, or recorded no verify step."""
    if not drafts:
        return
    rounds = rounds_of(requests)
    if not rounds:
        yield Finding("silent non-speculation", "invalid", "the engine recorded no verify step")
    elif acceptance_length(rounds) == 1:
        yield Finding("silent non-speculation", "invalid", f"none of {len(rounds)} rounds accepted a draft")


def unequal_prompts(
    requests: Iterable[RequestRecord], baseline: Mapping[PromptKey, tuple[str, int | None]]
) -> Iterable[Finding]:
    """Prompts or cached tokens that differ from the baseline's on the same prompt and turn."""
    for request in requests:
        same = baseline.get((request.prompt_id, request.turn))
        if same is None or request.error is not None:
            continue
        if request.prompt_sha256 != same[0]:
            yield Finding("unequal prompts", "invalid", f"{request.prompt_id} was rendered otherwise than for vanilla")
            return
        if request.num_cached_tokens != same[1]:
            evidence = f"{request.prompt_id}: {request.num_cached_tokens} cached tokens, vanilla had {same[1]}"
            yield Finding("unequal cache", "invalid", evidence)
            return


def engine_counters(requests: Iterable[RequestRecord]) -> Iterable[Finding]:
    """Recorded rounds that contradict the engine's own counters."""
    wrong = [text for request in requests if (text := disagrees_with_engine(request)) is not None]
    if wrong:
        yield Finding("engine counters", "invalid", f"{len(wrong)} requests, the first: {wrong[0]}")


def unsteady_acceptance(blocks: Iterable[Sequence[RequestRecord]], greedy: bool) -> Iterable[Finding]:
    """Greedy blocks repeat the same tokens, so their acceptance must be the same: else some state was left over."""
    if not greedy:
        return
    lengths = [acceptance_length(rounds_of(requests)) for requests in blocks]
    present = [length for length in lengths if length is not None]
    if present and max(present) - min(present) > 1e-9:
        evidence = "acceptance length by block: " + ", ".join(f"{length:.3f}" for length in present)
        yield Finding("unsteady acceptance", "warning", evidence)


def impossible_speedup(low: float | None, acceptance: float | None, concurrency: int) -> Iterable[Finding]:
    """At concurrency 1 a round costs at least a vanilla step, so no decode speedup can exceed the acceptance length."""
    if concurrency == 1 and low is not None and acceptance is not None and low > acceptance:
        evidence = f"decode speedup of at least {low:.2f} with an acceptance length of {acceptance:.2f}"
        yield Finding("impossible speedup", "invalid", evidence)


def not_lossless(share: float | None, dtype: str) -> Iterable[Finding]:
    """Greedy outputs that differ from vanilla's in float32, where rounding explains only true ties."""
    if share is not None and share < 1 and dtype == "float32":
        yield Finding("not lossless", "warning", f"{share:.1%} of the greedy outputs equal vanilla's")
