"""Prompts of random words with a given count of tokens, for load tests; never a measure of acceptance."""

from __future__ import annotations

import random
from pathlib import Path

from draftbench.harness.errors import WorkloadError

ATTEMPTS = 20
MIN_WORDS = 100


def random_prompts(folder: Path, num_tokens: int, num_prompts: int, seed: int) -> list[str]:
    """Texts of exactly `num_tokens` tokens each, before the chat template adds its own.

    Args:
        folder: a model's, with the tokenizer.json that counts.

    Raises:
        WorkloadError: no tokenizer there, or one that does not keep words apart.
    """
    tokenizer, path = tokenizer_of(folder), folder / "tokenizer.json"
    # A piece that begins a word is written with Ġ (byte-level BPE) or ▁ (SentencePiece) before it.
    words = sorted(
        {
            piece[1:]
            for piece in tokenizer.get_vocab()
            if piece[0] in "Ġ▁" and piece[1:].isascii() and piece[1:].isalpha()
        }
    )
    if len(words) < MIN_WORDS:
        raise WorkloadError(f"{path} has {len(words)} words of one token; random prompts need {MIN_WORDS}.")
    rng = random.Random(f"draftbench/random/{num_tokens}/{seed}")
    return [_text(tokenizer, words, num_tokens, rng, path) for _ in range(num_prompts)]


def tokenizer_of(folder: Path):  # type: ignore[no-untyped-def]  # imported lazily
    """The tokenizer of a model's folder.

    Raises:
        WorkloadError: there is none.
    """
    from tokenizers import Tokenizer

    path = folder / "tokenizer.json"
    if not path.exists():
        raise WorkloadError(f"{path} is missing; prompts are counted with it. Give a folder as `tokenizer:`.")
    return Tokenizer.from_file(str(path))


def _text(tokenizer, words: list[str], num_tokens: int, rng: random.Random, path: Path) -> str:  # type: ignore[no-untyped-def]  # imported lazily
    for _ in range(ATTEMPTS):
        # The first word has no space before it and may be more than one token: another one is tried then.
        text = " ".join(rng.choices(words, k=num_tokens))
        if len(tokenizer.encode(text, add_special_tokens=False).ids) == num_tokens:
            return text
    raise WorkloadError(f"{path}: no text of exactly {num_tokens} tokens in {ATTEMPTS} attempts; try another number.")
