"""Why an arm is fast or slow: acceptance by kind of prompt, by turn and along the output."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

from draftbench.harness.metrics.acceptance import acceptance_length, conditional_acceptance, rounds_of, survival
from draftbench.harness.records import RequestRecord, Round

STRETCH = 32
"""Tokens of the first stretch of an output; each later one is as long as all before it."""


def acceptance_by(
    requests: Iterable[RequestRecord], key: Callable[[RequestRecord], str | None], depth: int
) -> dict[str, dict[str, Any]]:
    """τ, S_k and α_k of the requests that share a key; those without one are left out."""
    groups: dict[str, list[RequestRecord]] = defaultdict(list)
    for request in requests:
        name = key(request)
        if name is not None:
            groups[name].append(request)
    found = {}
    for name in sorted(groups):
        rounds = rounds_of(groups[name])
        if rounds:
            found[name] = {
                "num_rounds": len(rounds),
                "acceptance_length": acceptance_length(rounds),
                "survival": survival(rounds),
                "conditional_acceptance": conditional_acceptance(rounds, depth),
            }
    return found


def acceptance_along(requests: Iterable[RequestRecord]) -> list[dict[str, Any]]:
    """τ of the rounds that began within each stretch of the output: tokens 0 to 31, 32 to 63, 64 to 127, …"""
    stretches: dict[int, list[Round]] = defaultdict(list)
    for request in requests:
        place = 1
        for round_ in request.rounds or () if request.error is None else ():
            stretches[stretch_of(place)].append(round_)
            place += round_.num_accepted_drafts + 1
    return [
        {
            "from_token": 0 if index == 0 else STRETCH * 2 ** (index - 1),
            "num_rounds": len(stretches[index]),
            "acceptance_length": acceptance_length(stretches[index]),
        }
        for index in sorted(stretches)
    ]


def stretch_of(place: int) -> int:
    """Number of the stretch that holds a token, from 0."""
    return 0 if place < STRETCH else int(math.log2(place // STRETCH)) + 1
