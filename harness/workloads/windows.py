"""Windows of a text as prompts: so many of the target's tokens each, one every so many tokens."""

from __future__ import annotations

from pathlib import Path

from draftbench.harness.errors import WorkloadError
from draftbench.harness.workloads.random_words import tokenizer_of
from draftbench.harness.workloads.user_files import text_of_file


def windows_of(path: Path, folder: Path, num_tokens: int, stride: int) -> list[tuple[int, str]]:
    """Every whole window of a file's text, with the token at which it begins; what is blank is left out.

    A window ends with a character, so its text alone may have a token more or less than it had in the file.

    Args:
        folder: a model's, with the tokenizer.json that counts.

    Raises:
        WorkloadError: no tokenizer there, or a file that is no text or shorter than a window.
    """
    text = text_of_file(path)
    offsets = tokenizer_of(folder).encode(text, add_special_tokens=False).offsets
    if len(offsets) < num_tokens:
        raise WorkloadError(
            f"{path} has {len(offsets)} tokens, window_tokens is {num_tokens}; lower it, or give a longer text."
        )
    starts = range(0, len(offsets) - num_tokens + 1, stride)
    found = [(start, text[offsets[start][0] : offsets[start + num_tokens - 1][1]]) for start in starts]
    return [(start, window) for start, window in found if window.strip()]
