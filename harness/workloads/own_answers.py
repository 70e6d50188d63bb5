"""What a user's own records say is right: the key `answer`, held against the target's as the suite says."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import Any, Literal

import regex

from draftbench.harness.errors import WorkloadError
from draftbench.harness.workloads.prompts import Answer, Choice, Exact, Number, Pattern
from draftbench.harness.workloads.score import final_number

Matching = Literal["exact", "number", "choice", "regex"]
KEY = "answer"
LONGEST_EXPRESSION = 1000
Reader = Callable[[Any], Answer | None]
"""From a record's value to what is held against; None where it is none of the kind."""


def own_answer(record: Mapping[str, Any], matching: Matching, place: str) -> Answer | None:
    """What the answer to a record's last turn must be; None where the record says null.

    Raises:
        WorkloadError: it says nothing, or what it says is not of the suite's kind.
    """
    if KEY not in record:
        raise WorkloadError(
            f"{place}: there is no {KEY} in it, but the workload says answer: {matching}; give one, or null where "
            "nothing is to be scored."
        )
    value = record[KEY]
    if value is None:
        return None
    read, allowed = READERS[matching]
    found = read(value)
    if found is None:
        raise WorkloadError(f"{place}: {KEY} is {value!r:.60}; with answer: {matching} it must be {allowed}.")
    return found


def _exact(value: Any) -> Answer | None:
    return Exact(value) if isinstance(value, str) and value.strip() else None


def _number(value: Any) -> Answer | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    if isinstance(value, str):
        found = final_number(value)
        return None if found is None else Number(found)
    return Number(repr(value)) if math.isfinite(value) else None


def _choice(value: Any) -> Answer | None:
    letter = value.strip(" ().").upper() if isinstance(value, str) else ""
    return Choice(letter) if re.fullmatch("[A-Z]", letter) else None


def _pattern(value: Any) -> Answer | None:
    if not isinstance(value, str) or not 0 < len(value) <= LONGEST_EXPRESSION:
        return None
    try:
        regex.compile(value)
    except (regex.error, OverflowError, RecursionError):
        return None
    return Pattern(value)


READERS: Mapping[Matching, tuple[Reader, str]] = {
    "exact": (_exact, "a text"),
    "number": (_number, "a number, or a text that ends in one"),
    "choice": (_choice, "one letter, A to Z"),
    "regex": (
        _pattern,
        f"a regular expression of the package `regex`, of at most {LONGEST_EXPRESSION} characters",
    ),
}
