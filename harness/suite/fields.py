"""Types of a suite's fields, with their bounds."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", max_length=60)]
Positive = Annotated[int, Field(ge=1, le=1_000_000_000)]
Count = Annotated[int, Field(ge=1, le=100_000)]
Tokens = Annotated[int, Field(ge=1, le=10_000_000)]
Repeats = Annotated[int, Field(ge=1, le=1000)]
Finite = Annotated[float, Field(gt=0, le=1e9, allow_inf_nan=False)]
Text = Annotated[str, Field(max_length=100_000)]
Share = Annotated[float, Field(ge=0, le=1)]
Alphas = Annotated[tuple[Share, ...], Field(strict=False)]
SourceName = Literal[
    "synthetic", "random", "windows", "prompts", "chat_jsonl", "sharegpt", "gsm8k", "mt_bench", "spec_bench",
    "humaneval", "mbpp", "alpaca", "cnn_dm", "natural_questions", "math500", "speed_bench",
]  # fmt: skip


def count_or_auto(value: Any) -> Any:
    """One message for both kinds."""
    if value == "auto" or (type(value) is int and 1 <= value <= 1000):
        return value
    raise ValueError("a number from 1 to 1000, or auto")


def _is_path(text: str) -> str:
    """What systems take as a file's path, a hub id among them."""
    if len(text) > 1000 or any(len(part.encode(errors="replace")) > 255 for part in text.split("/")):
        raise ValueError("a path has at most 1000 characters, and each name in it 255 bytes")
    if not text.isprintable():
        raise ValueError("a path has no control characters")
    return text


PathText = Annotated[str, AfterValidator(_is_path)]


def name_or_number(value: Any) -> Any:
    """One message for both kinds."""
    if value is None or (isinstance(value, str) and value) or (type(value) is int and value >= 1):
        return value
    raise ValueError("the name of a key or column, or a column's number from 1")
