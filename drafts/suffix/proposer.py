"""Suffix decoding: wherever the request's end stood before, what followed, weighed by how often it did.

Of every length p of a match the occurrences make a tree: a node's probability is its parent's times the share of the
parent's occurrences that go on with its token, and the likeliest nodes are taken, at most `nodes_per_match` times p.
The tree with the highest sum of probabilities, the drafts that it expects to be accepted, is proposed. The request's
own tokens and the outputs of finished requests make trees of their own.
Source: SuffixDecoding (arXiv 2411.04975), where suffix trees hold the occurrences. Here they are looked up in the text
itself, which needs no more memory than the tokens and takes a fraction of a millisecond at some 100,000 of them.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from draftbench.drafts.api import Tree
from draftbench.drafts.proposer import Context, TokenTree, Verified
from draftbench.drafts.suffix.spec import SuffixOptions

BETWEEN = -1
"""Stands between two outputs; no token."""


class Text:
    """Tokens that only grow, as an array."""

    def __init__(self, tokens: Sequence[int] = ()) -> None:
        self._tokens = np.array(tokens, np.int32)
        self._size = len(tokens)

    @property
    def tokens(self) -> np.ndarray:
        """[N] int32."""
        return self._tokens[: self._size]

    def extend(self, tokens: Sequence[int]) -> None:
        """Add to its end."""
        size = self._size + len(tokens)
        if size > len(self._tokens):
            self._tokens = np.resize(self._tokens, 2 * size)
        self._tokens[self._size : size] = tokens
        self._size = size


@dataclass
class ActiveRequest:
    """A request under way: its text, and where its output begins."""

    text: Text
    num_prompt_tokens: int


@dataclass
class Drafted:
    """A tree, and how many of its drafts it expects to be accepted."""

    tokens: list[int] = field(default_factory=list)
    parents: list[int] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)

    @property
    def expected(self) -> float:
        """Of its drafts to be accepted."""
        return sum(self.scores)


class Suffix:
    """One memory of outputs for all requests."""

    def __init__(self, options: SuffixOptions, tree: Tree, vocab_size: int) -> None:
        self._options, self._tree = options, tree
        self._running: dict[str, ActiveRequest] = {}
        self._outputs = Text()

    def on_prefill(self, request_id: str, tokens: Sequence[int], hidden: Any = None) -> None:
        """The prompt and the target's first token can be found from now on, by this request."""
        self._running[request_id] = ActiveRequest(Text(tokens), len(tokens) - 1)

    def propose(self, requests: Sequence[Context]) -> list[TokenTree]:
        """The tree that expects most, from the request's own tokens or from earlier outputs."""
        return [self._best(self._running[request.request_id].text.tokens) for request in requests]

    def on_verify(self, request_id: str, verified: Verified) -> None:
        """The request's text grows."""
        accepted = [verified.tree.tokens[node] for node in verified.accepted]
        self._running[request_id].text.extend([*accepted, verified.bonus])

    def on_finish(self, request_id: str) -> None:
        """Its output can be found by all requests from now on."""
        done = self._running.pop(request_id, None)
        limit = self._options.remembered_tokens
        if done is not None and limit:
            self._outputs.extend([*done.text.tokens[done.num_prompt_tokens :], BETWEEN])
            if len(self._outputs.tokens) > 2 * limit:
                self._outputs = Text(self._outputs.tokens[-limit:].tolist())

    def reset(self) -> None:
        """Forget earlier outputs, unless they are to be kept."""
        if self._options.state == "reset":
            self._outputs = Text()

    def _best(self, end: np.ndarray) -> TokenTree:
        best = Drafted()
        remembered = self._outputs.tokens[-self._options.remembered_tokens :]
        for text in (end, remembered):
            for size, places in occurrences(text, end, self._options.longest_match):
                nodes = min(self._tree.num_draft_tokens - 1, int(self._options.nodes_per_match * size))
                found = likeliest(text, places, self._tree, nodes, self._options.min_probability)
                if found.expected > best.expected:
                    best = found
        return TokenTree(best.tokens, best.parents, best.scores)


def occurrences(text: np.ndarray, end: np.ndarray, longest: int) -> Iterator[tuple[int, np.ndarray]]:
    """Where what follows the end of a request stands, longest matches first.

    Only lengths at which the occurrences change are given: of those between, the longest has the same ones.

    Args:
        text: [N] tokens to look in; it may be the request itself, whose own end is no occurrence.
        end: [M] the request's tokens.

    Yields:
        How many tokens match, and the [K] indices into `text` of the tokens after them.
    """
    places = np.flatnonzero(text[:-1] == end[-1]) + 1
    sizes = np.ones(len(places), np.int64)
    for size in range(2, min(longest, len(end)) + 1):
        longer = np.flatnonzero((sizes == size - 1) & (places >= size))
        longer = longer[text[places[longer] - size] == end[-size]]
        if not len(longer):
            break
        sizes[longer] = size
    for size in np.unique(sizes)[::-1]:
        yield int(size), places[sizes >= size]


def likeliest(text: np.ndarray, places: np.ndarray, budget: Tree, num_nodes: int, min_probability: float) -> Drafted:
    """The tree of the likeliest continuations of some occurrences, equally likely ones in the order of their tokens.

    Args:
        places: [K] indices into `text`, where continuations begin.
        num_nodes: how many it has at most.
    """
    found = Drafted()
    waiting: list[tuple[float, int, int, int, np.ndarray]] = []

    def offer(probability: float, depth: int, parent: int, here: np.ndarray) -> None:
        if depth == budget.num_steps:
            return
        following = here[here + depth < len(text)]
        tokens = text[following + depth]
        kinds, counts = np.unique(tokens[tokens != BETWEEN], return_counts=True)
        for kind in np.argsort(-counts, kind="stable")[: budget.topk]:
            own = probability * float(counts[kind]) / len(here)
            if own >= min_probability:
                token = int(kinds[kind])
                heapq.heappush(waiting, (-own, depth + 1, parent, token, following[tokens == token]))

    offer(1.0, 0, -1, places)
    while waiting and len(found.tokens) < num_nodes:
        score, depth, parent, token, here = heapq.heappop(waiting)
        found.tokens.append(token)
        found.parents.append(parent)
        found.scores.append(-score)
        offer(-score, depth, len(found.tokens) - 1, here)
    return found
