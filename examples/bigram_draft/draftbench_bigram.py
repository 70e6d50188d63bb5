"""An architecture without a model: what followed a token last in the same request drafts a chain."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from pydantic import Field

from draftbench.drafts.api import Options, Tree
from draftbench.drafts.proposer import Context, TokenTree, Verified, proposer_spec


class BigramOptions(Options):
    """Checked when a suite is loaded; mistakes name the option and its line."""

    shortest_request: int = Field(1, ge=1, description="Tokens that a request must have before anything is drafted.")


class Bigram:
    """One dictionary for each request: token → the token that came after it last."""

    def __init__(self, options: BigramOptions, tree: Tree, vocab_size: int) -> None:
        self._options, self._tree = options, tree
        self._after: dict[str, dict[int, int]] = {}
        self._last: dict[str, int] = {}

    def on_prefill(self, request_id: str, tokens: Sequence[int], hidden: Any = None) -> None:
        """Learn the prompt."""
        self._after[request_id] = dict(pairwise(tokens))
        self._last[request_id] = tokens[-1]

    def propose(self, requests: Sequence[Context]) -> list[TokenTree]:
        """Follow the dictionary from each request's last token."""
        return [self._chain(request) for request in requests]

    def on_verify(self, request_id: str, verified: Verified) -> None:
        """Learn what was accepted, and the target's own token after it."""
        for token in (*(verified.tree.tokens[node] for node in verified.accepted), verified.bonus):
            self._after[request_id][self._last[request_id]] = token
            self._last[request_id] = token

    def on_finish(self, request_id: str) -> None:
        """Forget the request."""
        del self._after[request_id], self._last[request_id]

    def reset(self) -> None:
        """Nothing outlives a request."""

    def _chain(self, request: Context) -> TokenTree:
        tokens: list[int] = []
        token: int | None = request.tokens[-1]
        while len(request.tokens) >= self._options.shortest_request and len(tokens) < self._tree.num_steps:
            token = self._after[request.request_id].get(token)
            if token is None:
                break
            tokens.append(token)
        return TokenTree(tokens, range(-1, len(tokens) - 1))


SPEC = proposer_spec(
    name="bigram",
    title="what followed the last token before drafts a chain",
    origin="an example of docs/adding-a-draft.md",
    factory="draftbench_bigram:Bigram",
    options=BigramOptions,
)
