"""Adaptive tri-grams: which tokens followed which two, how likely, and the tree of the paths that a search visits most.

Shares come from a table (`bench.py table`), or begin with nothing. In every round those of the text's last tri-grams
are raised, whichever request's it is. The search's paths are a token shorter than the tree is deep; the most visited
nodes are the tree, each with its likeliest follower.
Source: ADED (arXiv 2407.12021); liuxukun2000/Adaptix at 241dad8, DraftRetriever/src/lib.rs. Differs from it: the tree
is as large as the suite says and holds the most visited nodes (theirs has 24 paths, then drops the longest ones), nodes
have at most `topk` children, and equal nodes stand in the order in which they were found.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

from draftbench.drafts.adaptive_trigram.rollouts import Pair, Search, Successors, search
from draftbench.drafts.adaptive_trigram.spec import AdaptiveTrigramOptions, facts_of
from draftbench.drafts.api import Tree
from draftbench.drafts.proposer import Context, TokenTree, Verified
from draftbench.harness.corpora.trigrams import load_table
from draftbench.harness.models.find import read_config


class AdaptiveTrigram:
    """One memory of tri-grams for all requests. A round's random numbers depend on the seed and the text alone."""

    def __init__(
        self, options: AdaptiveTrigramOptions, tree: Tree, vocab_size: int, checkpoint: Path | None = None
    ) -> None:
        self._options, self._tree = options, tree
        self._table = None if checkpoint is None else load_table(checkpoint)
        self._facts = {} if checkpoint is None else facts_of(read_config(checkpoint))
        self._search = Search(
            options.rollouts, max(1, tree.num_steps - 1), options.exploration, options.exploration_growth
        )
        self._raised: dict[Pair, dict[int, float]] = {}
        """Shares of pairs that a text has had; others are the table's."""
        self._known: dict[Pair, Successors] = {}
        """What the search was told already, until it changes."""

    def facts(self) -> dict[str, Any]:
        """What the receipt says of the table."""
        return self._facts

    def on_prefill(self, request_id: str, tokens: Sequence[int], hidden: Any = None) -> None:
        """Its text comes with every round."""

    def propose(self, requests: Sequence[Context]) -> list[TokenTree]:
        """Raise the texts' last tri-grams, then search from each one's last two tokens."""
        return [self._tree_of(request.tokens) for request in requests]

    def on_verify(self, request_id: str, verified: Verified) -> None:
        """New tokens are seen in the next round."""

    def on_finish(self, request_id: str) -> None:
        """What it raised stays."""

    def reset(self) -> None:
        """Forget what was raised, unless it is to be kept."""
        if self._options.state == "reset":
            self._raised.clear()
            self._known.clear()

    def _tree_of(self, tokens: Sequence[int]) -> TokenTree:
        if len(tokens) < 2:
            return TokenTree((), ())
        self._raise(tokens[-self._options.window :])
        pair = (tokens[-2], tokens[-1])
        random = Random(f"{self._options.seed} {len(tokens)} {pair}")
        return self._most_visited(pair, random)

    def _raise(self, last: Sequence[int]) -> None:
        for first, second, third in zip(last, last[1:], last[2:], strict=False):
            pair = (first, second)
            if pair not in self._raised:
                self._raised[pair] = {} if self._table is None else self._table.successors(*pair)
            shares = self._raised[pair]
            shares[third] = min(shares.get(third, 0.0) + self._options.boost, self._options.highest)
            self._known.pop(pair, None)

    def _followers(self, pair: Pair) -> Successors:
        """At most `topk`, the likeliest first, equal ones by their number."""
        found = self._known.get(pair)
        if found is None:
            shares = self._raised.get(pair)
            if shares is None:
                shares = {} if self._table is None else self._table.successors(*pair)
            best = sorted(shares.items(), key=lambda entry: (-entry[1], entry[0]))[: self._tree.topk]
            found = self._known[pair] = Successors([token for token, _ in best], [share for _, share in best])
        return found

    def _most_visited(self, root: Pair, random: Random) -> TokenTree:
        found = search(self._followers, root, self._search, random)
        tokens: list[int] = []
        parents: list[int] = []
        places: dict[tuple[int, int], int] = {}
        """The tree's nodes by their parent there and their token."""
        at = {0: -1}
        """Where the search's nodes stand in the tree."""

        def take(parent: int, token: int) -> int | None:
            place = places.get((parent, token))
            if place is None and len(tokens) < self._tree.num_draft_tokens - 1:
                place = places[parent, token] = len(tokens)
                tokens.append(token)
                parents.append(parent)
            return place

        for node in sorted(range(1, len(found.pairs)), key=lambda node: -found.visits[node]):
            place = take(at[found.parents[node]], found.pairs[node][1])
            if place is None:
                break
            at[node] = place
            if found.depths[node] < self._tree.num_steps and (below := self._followers(found.pairs[node]).tokens):
                take(place, below[0])
        return TokenTree(tokens, parents)
