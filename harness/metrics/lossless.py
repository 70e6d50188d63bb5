"""Whether greedy outputs are those of the vanilla reference pass, token for token."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from harness.records import ReferenceRecord, RequestRecord

ReferenceKey = tuple[str, str, int]
"""Workload, prompt and turn."""


def lossless_share(
    requests: Iterable[RequestRecord], references: Mapping[ReferenceKey, ReferenceRecord]
) -> float | None:
    """Share of finished requests whose token ids equal the reference's; None if there is nothing to compare."""
    equal = [
        request.output_ids == references[key].output_ids
        for request in requests
        if request.error is None and (key := (request.cell.workload, request.prompt_id, request.turn)) in references
    ]
    return sum(equal) / len(equal) if equal else None


def first_difference(left: tuple[int, ...], right: tuple[int, ...]) -> int | None:
    """Index of the first token that differs, the end of the shorter one included; None if they are equal."""
    if left == right:
        return None
    shared = min(len(left), len(right))
    return next((index for index in range(shared) if left[index] != right[index]), shared)
