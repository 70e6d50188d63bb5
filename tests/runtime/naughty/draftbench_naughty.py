"""A proposer that behaves for a while and then does not."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from typing import Any

from drafts.api import Options, Tree
from drafts.proposer import Context, TokenTree, Verified, proposer_spec

GOOD_ROUNDS = 10


class NaughtyOptions(Options):
    """Which mischief, and after how many rounds."""

    mischief: str
    good_rounds: int = GOOD_ROUNDS


class Naughty:
    """Drafts the last token again; then does what it must not."""

    def __init__(self, options: NaughtyOptions, tree: Tree, vocab_size: int) -> None:
        self._mischief, self._left = options.mischief, options.good_rounds
        self._vocab_size, self._tree = vocab_size, tree

    def on_prefill(self, request_id: str, tokens: Sequence[int], hidden: Any = None) -> None:
        """Nothing."""

    def propose(self, requests: Sequence[Context]) -> Any:
        """Good trees at first."""
        self._left -= 1
        good = [TokenTree([request.tokens[-1]], [-1]) for request in requests]
        if self._left >= 0:
            return good
        if self._mischief == "raises":
            raise KeyError("lost")
        if self._mischief == "hangs":
            time.sleep(3600)
        size = self._tree.num_draft_tokens
        return {
            "nothing": None,
            "words": ["tree"] * len(good),
            "too few": good[:-1],
            "malformed": [TokenTree([1, 2], [0, -1])] * len(good),
            "vocabulary": [TokenTree([self._vocab_size], [-1])] * len(good),
            "fractions": [TokenTree([0.5], [-1])] * len(good),
            "too many": [TokenTree(range(size), range(-1, size - 1))] * len(good),
            "nan": [TokenTree([1], [-1], [math.nan])] * len(good),
        }[self._mischief]

    def on_verify(self, request_id: str, verified: Verified) -> None:
        """Nothing."""

    def on_finish(self, request_id: str) -> None:
        """Nothing."""

    def reset(self) -> None:
        """Nothing."""


SPEC = proposer_spec(
    name="naughty",
    title="misbehaves",
    origin="tests",
    factory="draftbench_naughty:Naughty",
    options=NaughtyOptions,
)
