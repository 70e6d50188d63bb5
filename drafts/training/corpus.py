"""The text that the embedded models learn from: synthetic chats and GSM8K's train split, as token rows."""

from __future__ import annotations

import hashlib
import json
import random
import re
from collections.abc import Iterator
from itertools import cycle, islice
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer

from draftbench.harness.workloads.synthetic import FAMILIES, generate

Chat = tuple[str, str]
"""One user message and the assistant's answer."""

POOL_CHATS = 32
"""Chats that wait to be packed: enough to fill rows to about 97%."""

IGNORED = -100
"""Label of a token that is read but not learned: prompts and padding (torch's cross-entropy default)."""


def synthetic_chats(seed: int) -> Iterator[Chat]:
    """An endless stream of the train split, family after family in turn."""
    streams = [generate(family, "train", seed) for family in FAMILIES]
    for stream in cycle(streams):
        task = next(stream)
        yield task.prompt, task.answer


def gsm8k_chats(path: Path) -> list[Chat]:
    """GSM8K records as chats, without the calculator marks between double angle brackets."""
    records = [json.loads(line) for line in path.read_text().splitlines()]
    return [(record["question"], re.sub(r"<<.*?>>", "", record["answer"])) for record in records]


def mixed_chats(gsm8k: list[Chat], gsm8k_share: float, seed: int) -> Iterator[Chat]:
    """Synthetic chats with GSM8K's mixed in at the given share, GSM8K reshuffled every epoch."""
    rng = random.Random(seed)
    synthetic = synthetic_chats(seed)
    deck: list[Chat] = []
    while True:
        if rng.random() < gsm8k_share:
            if not deck:
                deck = rng.sample(gsm8k, len(gsm8k))
            yield deck.pop()
        else:
            yield next(synthetic)


def encode_chat(tokenizer: Tokenizer, chat: Chat) -> tuple[list[int], int]:
    """Token ids of a chat as the template renders it, and how many of them are the prompt."""
    prompt, answer = chat
    prompt_ids = tokenizer.encode(f"<|user|>\n{prompt}<|end|>\n<|assistant|>\n").ids
    return prompt_ids + tokenizer.encode(f"{answer}<|end|>").ids, len(prompt_ids)


def packed_rows(
    tokenizer: Tokenizer, chats: Iterator[Chat], row_tokens: int
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Fill rows with whole chats, of a small pool always the longest that still fits; the rest is padding.

    Chats longer than a row are left out.

    Yields:
        ids, labels and chat numbers, each [row_tokens] int64. Labels are `IGNORED` on prompts and padding;
        chat numbers start at 1, padding is 0, so that attention can be kept within a chat.
    """
    encoded = (encode_chat(tokenizer, chat) for chat in chats)
    fitting = ((ids, prompt) for ids, prompt in encoded if len(ids) <= row_tokens)
    pool = list(islice(fitting, POOL_CHATS))
    while pool:
        ids, labels, owners = _empty_row(row_tokens)
        filled = number = 0
        # The oldest chat of the pool opens the row, so that none waits for ever.
        choice: int | None = 0
        while choice is not None:
            tokens, prompt_tokens = pool.pop(choice)
            number += 1
            end = filled + len(tokens)
            ids[filled:end] = tokens
            labels[filled + prompt_tokens : end] = tokens[prompt_tokens:]
            owners[filled:end] = number
            filled = end
            pool.extend(islice(fitting, 1))
            room = row_tokens - filled
            choice = max(
                (index for index, (ids_, _) in enumerate(pool) if len(ids_) <= room),
                key=lambda index: len(pool[index][0]),
                default=None,
            )
        yield ids, labels, owners


def _empty_row(row_tokens: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    zeros = np.zeros(row_tokens, dtype=np.int64)
    return zeros.copy(), np.full(row_tokens, IGNORED, dtype=np.int64), zeros.copy()


def chat_mask(owners_BT: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Attention mask [B, 1, T, T] (bool, causal within each chat) and positions [B, T] from each chat's start."""
    size = owners_BT.shape[1]
    same = owners_BT[:, :, None] == owners_BT[:, None, :]
    causal = torch.ones(size, size, dtype=torch.bool, device=owners_BT.device).tril()
    index = torch.arange(size, device=owners_BT.device).expand_as(owners_BT)
    starts = torch.ones_like(owners_BT, dtype=torch.bool)
    starts[:, 1:] = owners_BT[:, 1:] != owners_BT[:, :-1]
    first = torch.where(starts, index, 0).cummax(dim=1).values
    return (same & causal)[:, None], index - first


def sha256_of(path: Path) -> str:
    """SHA-256 of a file as hex."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
