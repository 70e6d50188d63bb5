"""Requests as they are sent: rendered prompts with everything that identifies them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Prompt:
    """One turn of one conversation, rendered; the same for every arm."""

    workload: str
    prompt_id: str
    turn: int
    category: str | None
    prompt_ids: tuple[int, ...]
    sha256: str
    max_tokens: int
    messages: tuple[Mapping[str, str], ...] = ()
    """The conversation that the ids were rendered from, for servers that render it themselves."""
