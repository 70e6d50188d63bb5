"""Token Recycling: a table of every token's latest likeliest successors, read as a fixed tree.

Source: Token Recycling (arXiv 2408.08696, section 3): an adjacency matrix of vocabulary × 8, updated from all verified
nodes, and a static tree. The published tree has 80 nodes; here its shape follows from the arm's budget.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from typing import Any

import numpy as np

from draftbench.drafts.api import Tree
from draftbench.drafts.proposer import Context, TokenTree, Verified
from draftbench.drafts.token_recycling.spec import CANDIDATES, TokenRecyclingOptions


def fixed_paths(tree: Tree, rank_decay: float) -> list[tuple[int, ...]]:
    """The paths of ranks with the largest weights within the budget, by depth and then rank."""
    width = min(tree.topk, CANDIDATES)
    waiting = [(-rank_decay / (rank + 1), (rank,)) for rank in range(width)]
    heapq.heapify(waiting)
    paths: list[tuple[int, ...]] = []
    while waiting and len(paths) < tree.num_draft_tokens - 1:
        weight, path = heapq.heappop(waiting)
        paths.append(path)
        if len(path) < tree.num_steps:
            for rank in range(width):
                heapq.heappush(waiting, (weight * rank_decay / (rank + 1), (*path, rank)))
    return sorted(paths, key=lambda path: (len(path), path))


class TokenRecycling:
    """One table [V, 8] for all requests; -1 where nothing is known yet."""

    def __init__(self, options: TokenRecyclingOptions, tree: Tree, vocab_size: int) -> None:
        self._keeps = options.state == "keep"
        self.successors_VK = np.full((vocab_size, CANDIDATES), -1, dtype=np.int64)
        paths = fixed_paths(tree, options.rank_decay)
        places = {path: place for place, path in enumerate(paths)}
        self._steps = [(places.get(path[:-1], -1), path[-1]) for path in paths]

    def on_prefill(self, request_id: str, tokens: Sequence[int], hidden: Any = None) -> None:
        """Prompts are not learnt from: the engine scores their last token alone."""

    def propose(self, requests: Sequence[Context]) -> list[TokenTree]:
        """The fixed tree, as far as the table is filled."""
        return [self._read(request.tokens[-1]) for request in requests]

    def on_verify(self, request_id: str, verified: Verified) -> None:
        """Every node's candidates take the place of what was known of its token; of equal tokens the last counts."""
        for token, candidates in zip((verified.root, *verified.tree.tokens), verified.node_topk, strict=True):
            self.successors_VK[token] = candidates

    def on_finish(self, request_id: str) -> None:
        """The table belongs to no request."""

    def reset(self) -> None:
        """Forget the table, unless it is to be kept."""
        if not self._keeps:
            self.successors_VK.fill(-1)

    def _read(self, root: int) -> TokenTree:
        tokens: list[int] = []
        parents: list[int] = []
        node_of_place: list[int | None] = []
        for parent_place, rank in self._steps:
            parent = -1 if parent_place < 0 else node_of_place[parent_place]
            token = -1 if parent is None else int(self.successors_VK[root if parent < 0 else tokens[parent], rank])
            if parent is None or token < 0:
                node_of_place.append(None)
                continue
            node_of_place.append(len(tokens))
            tokens.append(token)
            parents.append(parent)
        return TokenTree(tokens, parents)
