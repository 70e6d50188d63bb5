"""Prompt lookup: the longest end of the request that stood in it before, and what followed there.

Source: Saxena 2023, prompt lookup decoding, which proposes one continuation; here the latest ones fill the tree.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from draftbench.drafts.api import Tree
from draftbench.drafts.prompt_lookup.spec import PromptLookupOptions
from draftbench.drafts.proposer import Context, TokenTree, Verified


class PromptLookup:
    """Looks at a request's own tokens alone."""

    def __init__(self, options: PromptLookupOptions, tree: Tree, vocab_size: int) -> None:
        self._options, self._tree = options, tree

    def on_prefill(self, request_id: str, tokens: Sequence[int], hidden: Any = None) -> None:
        """Nothing to prepare."""

    def propose(self, requests: Sequence[Context]) -> list[TokenTree]:
        """Continuations of earlier occurrences, longer matches and later places first."""
        return [self._grown(request.tokens) for request in requests]

    def on_verify(self, request_id: str, verified: Verified) -> None:
        """Nothing to learn."""

    def on_finish(self, request_id: str) -> None:
        """Nothing to forget."""

    def reset(self) -> None:
        """Nothing to forget."""

    def _grown(self, tokens: Sequence[int]) -> TokenTree:
        budget = self._tree
        nodes: dict[tuple[int, int], int] = {}
        children = [0] * budget.num_draft_tokens
        for place in self._places(np.asarray(tokens)):
            parent = -1
            for token in tokens[place : place + budget.num_steps]:
                node = nodes.get((parent, token))
                if node is None:
                    if len(nodes) == budget.num_draft_tokens - 1:
                        return _tree(nodes)
                    if children[parent + 1] == budget.topk:
                        break
                    children[parent + 1] += 1
                    node = nodes[(parent, token)] = len(nodes)
                parent = node
        return _tree(nodes)

    def _places(self, tokens: np.ndarray) -> Iterator[int]:
        """Where what follows a match begins."""
        seen: set[int] = set()
        for size in range(self._options.longest_match, self._options.shortest_match - 1, -1):
            if size >= len(tokens):
                continue
            windows = np.lib.stride_tricks.sliding_window_view(tokens[:-1], size)
            for begin in np.flatnonzero((windows == tokens[-size:]).all(axis=1))[::-1]:
                place = int(begin) + size
                if place not in seen:
                    seen.add(place)
                    yield place


def _tree(nodes: dict[tuple[int, int], int]) -> TokenTree:
    return TokenTree([token for _, token in nodes], [parent for parent, _ in nodes])
