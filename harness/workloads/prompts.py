"""Conversations before they are rendered: what every workload family produces."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Conversation:
    """User turns that are asked one after the other, each answered by the target."""

    prompt_id: str
    category: str | None
    turns: tuple[str, ...]
    system: str | None = None
    answer: str | None = None
    """The correct answer to the last turn, where the set has one."""


def chosen(conversations: Sequence[Conversation], num_prompts: int | None, seed: int) -> tuple[Conversation, ...]:
    """`num_prompts` of them, chosen by the seed and kept in their order; all if there are no more."""
    if num_prompts is None or num_prompts >= len(conversations):
        return tuple(conversations)
    picked = sorted(random.Random(seed).sample(range(len(conversations)), num_prompts))
    return tuple(conversations[index] for index in picked)
