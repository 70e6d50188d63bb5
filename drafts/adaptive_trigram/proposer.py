"""Adaptive tri-grams: which token followed which two, how often it was drafted there and how often it was right.

A candidate's score is what it has earned (accepted over tried, with its share of the counts as one trial's worth of
prior) plus a bonus for candidates that have been tried less than their share. Paths multiply their scores; the best
paths are the tree.
Source: ADED (arXiv 2407.12021): tri-gram matrix updated from the target's outputs, and the exploring search in the
form of PUCT. The published search samples; this one is deterministic.
"""

from __future__ import annotations

import heapq
import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from draftbench.drafts.adaptive_trigram.spec import AdaptiveTrigramOptions
from draftbench.drafts.api import Tree
from draftbench.drafts.proposer import Context, TokenTree, Verified

Pair = tuple[int, int]


@dataclass
class Successors:
    """What is known of the tokens that followed one pair."""

    counts: dict[int, int] = field(default_factory=dict)
    tried: dict[int, int] = field(default_factory=dict)
    right: dict[int, int] = field(default_factory=dict)

    def scored(self, exploration: float, width: int) -> list[tuple[float, int]]:
        """The best candidates with their scores in (0, 1], best first; ties by token."""
        total, trials = sum(self.counts.values()), sum(self.tried.values())
        found = []
        for token, count in self.counts.items():
            prior, tried = count / total, self.tried.get(token, 0)
            earned = (self.right.get(token, 0) + prior) / (tried + 1)
            bonus = exploration * prior * math.sqrt(trials) / (1 + tried)
            found.append((earned + bonus, token))
        # Ranked by what may exceed 1, used as what does not: paths must not gain by getting longer.
        best = sorted(found, key=lambda pair: (-pair[0], pair[1]))[:width]
        return [(min(1.0, score), token) for score, token in best]


class AdaptiveTrigram:
    """One table for all requests."""

    def __init__(self, options: AdaptiveTrigramOptions, tree: Tree, vocab_size: int) -> None:
        self._options, self._tree = options, tree
        self.table: defaultdict[Pair, Successors] = defaultdict(Successors)
        self._last: dict[str, Pair] = {}

    def on_prefill(self, request_id: str, tokens: Sequence[int], hidden: Any = None) -> None:
        """The first tri-gram ends with the target's first token."""
        if len(tokens) >= 3:
            self._count((tokens[-3], tokens[-2]), tokens[-1])
        self._last[request_id] = (tokens[-2], tokens[-1]) if len(tokens) >= 2 else (-1, tokens[-1])

    def propose(self, requests: Sequence[Context]) -> list[TokenTree]:
        """The best paths from each request's last two tokens."""
        return [self._grown(self._last[request.request_id]) for request in requests]

    def on_verify(self, request_id: str, verified: Verified) -> None:
        """Count the new tokens; of the drafts whose parent was accepted, note which were right."""
        pair, accepted = self._last[request_id], set(verified.accepted)
        pairs: list[Pair] = []
        for node, (token, parent) in enumerate(zip(verified.tree.tokens, verified.tree.parents, strict=True)):
            before = pair if parent < 0 else pairs[parent]
            pairs.append((before[1], token))
            if parent < 0 or parent in accepted:
                known = self.table[before]
                known.tried[token] = known.tried.get(token, 0) + 1
                if node in accepted:
                    known.right[token] = known.right.get(token, 0) + 1
        for token in (*(verified.tree.tokens[node] for node in verified.accepted), verified.bonus):
            self._count(pair, token)
            pair = (pair[1], token)
        self._last[request_id] = pair

    def on_finish(self, request_id: str) -> None:
        """The request's place is forgotten, what it taught is not."""
        self._last.pop(request_id, None)

    def reset(self) -> None:
        """Forget the counts, unless they are to be kept."""
        if self._options.state == "reset":
            self.table.clear()

    def _count(self, pair: Pair, token: int) -> None:
        counts = self.table[pair].counts
        counts[token] = counts.get(token, 0) + 1

    def _grown(self, pair: Pair) -> TokenTree:
        budget = self._tree
        tokens: list[int] = []
        parents: list[int] = []
        scores: list[float] = []
        waiting: list[tuple[float, int, int, int, Pair]] = []

        def offer(score: float, depth: int, parent: int, before: Pair) -> None:
            known = self.table.get(before)
            if known is not None and known.counts and depth < budget.num_steps:
                for own, token in known.scored(self._options.exploration, budget.topk):
                    heapq.heappush(waiting, (-score * own, depth + 1, parent, token, (before[1], token)))

        offer(1.0, 0, -1, pair)
        while waiting and len(tokens) < budget.num_draft_tokens - 1:
            score, depth, parent, token, after = heapq.heappop(waiting)
            tokens.append(token)
            parents.append(parent)
            scores.append(-score)
            offer(-score, depth, len(tokens) - 1, after)
        return TokenTree(tokens, parents, scores)
