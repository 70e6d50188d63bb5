"""A proposer that behaves for a while and then does not, and one that writes down what it is told."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from draftbench.drafts.api import DraftSpec, Needs, Options, Tree
from draftbench.drafts.prompt_lookup.proposer import PromptLookup
from draftbench.drafts.prompt_lookup.spec import PromptLookupOptions
from draftbench.drafts.proposer import Context, TokenTree, Verified, proposer_spec

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
        if self._mischief == "draws":
            torch.rand(len(requests))
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
            "silent": [TokenTree([], [])] * len(good),
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


class Watcher(PromptLookup):
    """Prompt lookup that keeps everything it hears of the first request."""

    def __init__(self, options: PromptLookupOptions, tree: Tree, vocab_size: int) -> None:
        super().__init__(options, tree, vocab_size)
        self._watched: str | None = None
        self._heard: dict[str, list[np.ndarray]] = {"hidden": [], "node_topk": [], "accepted": []}

    def on_prefill(self, request_id: str, tokens: Sequence[int], hidden: Any = None) -> None:
        """The prompt's last hidden state."""
        if self._watched is None:
            self._watched = request_id
            self._tokens = np.array(tokens)
            self._heard["hidden"].append(hidden[None])

    def on_verify(self, request_id: str, verified: Verified) -> None:
        """The root's and the accepted nodes' hidden states, the root's candidates."""
        if request_id == self._watched:
            self._heard["hidden"].append(verified.hidden)
            self._heard["node_topk"].append(verified.node_topk[:1])
            self._heard["accepted"].append(np.array([len(verified.accepted)]))

    def on_finish(self, request_id: str) -> None:
        """The first request is over: write it down."""
        if request_id == self._watched:
            heard = {name: np.concatenate(arrays) for name, arrays in self._heard.items()}
            np.savez(Path(os.environ["DRAFTBENCH_ENGINE_FOLDER"]) / "heard.npz", tokens=self._tokens, **heard)
            self._watched = "none"


def watcher(name: str, needs: Needs) -> DraftSpec:
    """A watcher of what is needed."""
    return proposer_spec(
        name=name,
        title="writes down what it is told",
        origin="tests",
        factory="draftbench_naughty:Watcher",
        needs=needs,
        options=PromptLookupOptions,
    )


WATCHER = watcher("watcher", Needs("last", node_topk=3))
LAYER_WATCHER = watcher("layer_watcher", Needs("layers", (1, -4), node_topk=3))
