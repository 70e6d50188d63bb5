"""Conversations before they are rendered: what every workload family produces."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from draftbench.harness.errors import WorkloadError

Item = TypeVar("Item")


@dataclass(frozen=True)
class Exact:
    """An answer that must be given as it is, but for surrounding white space."""

    text: str


@dataclass(frozen=True)
class Number:
    """An answer whose last number must be this one."""

    value: str


@dataclass(frozen=True)
class Formula:
    """An answer that must be mathematically equal to this LaTeX."""

    latex: str


@dataclass(frozen=True)
class Choice:
    """An answer that must choose this one of several: a capital letter."""

    letter: str


@dataclass(frozen=True)
class Pattern:
    """An answer in which this regular expression must be found."""

    expression: str


@dataclass(frozen=True)
class Program:
    """An answer that is Python and must pass tests; it is run only when the suite asks for that."""

    prompt: str
    """Code that the answer may go on with; empty where the answer stands alone."""
    entry_point: str | None
    tests: str


Answer = Exact | Number | Formula | Choice | Pattern | Program


@dataclass(frozen=True)
class Conversation:
    """User turns that are asked one after the other, each answered by the target."""

    prompt_id: str
    category: str | None
    turns: tuple[str, ...]
    system: str | None = None
    answer: Answer | None = None
    """What the answer to the last turn must be, where the set says it."""
    later: tuple[tuple[int, str], ...] = ()
    """System messages besides the first one, each with the turn before which it stands."""
    unscored: bool = False
    """Its record says what is right, but in a way that nothing can be held against."""

    def asked(self, turn: int) -> list[dict[str, str]]:
        """The messages that a turn adds to what was said before: the system's that stand there, and the user's."""
        first = [self.system] if turn == 0 and self.system is not None else []
        texts = [*first, *(text for place, text in self.later if place == turn)]
        return [*({"role": "system", "content": text} for text in texts), {"role": "user", "content": self.turns[turn]}]


def chosen(conversations: Sequence[Item], num_prompts: int | None, seed: int) -> tuple[Item, ...]:
    """`num_prompts` of them, chosen by the seed and kept in their order; all if no number is given.

    Raises:
        WorkloadError: there are fewer; none is ever used twice.
    """
    if num_prompts is None:
        return tuple(conversations)
    if num_prompts > len(conversations):
        raise WorkloadError(
            f"num_prompts is {num_prompts}, but there are {len(conversations)}; no prompt is sent twice in a block. "
            "Lower it, or leave it out to send all."
        )
    picked = sorted(random.Random(seed).sample(range(len(conversations)), num_prompts))
    return tuple(conversations[index] for index in picked)
