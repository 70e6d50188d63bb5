"""What a draft without a KV cache in the engine is: it looks at tokens (and, if it asks, at what the target saw) and
proposes a tree. No SGLang in here; `draftbench.harness.runtime.drafts.proposals` brings it into the engine.

One Proposer serves all requests of an engine. The engine calls, per request:

    on_prefill → (propose → on_verify) … → on_finish

A request that is put back for lack of KV slots finishes and begins anew, with its tokens so far as the prompt. `reset`
comes with every flush of the engine's caches, that is before each cell: online state must not outlive it, unless the
suite says `options: {state: keep}`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import Any, Literal, Protocol

from draftbench.drafts.api import (
    Capabilities,
    Checkpoint,
    DraftSpec,
    Loadable,
    Needs,
    Options,
    Tree,
    as_found,
    full_tree,
)


@dataclass(frozen=True)
class TokenTree:
    """Drafted tokens below the root, which is the last token that is already sure.

    Attributes:
        tokens: N token ids, any length up to the budget; none at all is a valid tree.
        parents: for each token the index of its parent in `tokens`, or -1 for the root; parents come first.
        scores: of the path to each token, higher is likelier; checked to be finite, not read otherwise.
    """

    tokens: Sequence[int]
    parents: Sequence[int]
    scores: Sequence[float] | None = None

    def problem(self, budget: Tree, vocab_size: int) -> str | None:
        """Why this is no tree that may be verified; None if it is one."""
        if len(self.tokens) != len(self.parents):
            return f"{len(self.tokens)} tokens with {len(self.parents)} parents"
        if len(self.tokens) > budget.num_draft_tokens - 1:
            return f"{len(self.tokens)} nodes; num_draft_tokens allows {budget.num_draft_tokens - 1} and the root"
        depths: list[int] = []
        seen: set[tuple[int, int]] = set()
        for node, (token, parent) in enumerate(zip(self.tokens, self.parents, strict=True)):
            if not isinstance(token, Integral) or not 0 <= token < vocab_size:
                return f"node {node} holds token {token}; the vocabulary has {vocab_size}"
            if not isinstance(parent, Integral) or not -1 <= parent < node:
                return f"node {node} has parent {parent}; a parent is an earlier node, or -1"
            if (parent, token) in seen:
                return f"node {node} repeats token {token} below parent {parent}"
            seen.add((parent, token))
            depths.append(1 if parent < 0 else depths[parent] + 1)
            if depths[-1] > budget.num_steps:
                return f"node {node} is {depths[-1]} deep; num_steps is {budget.num_steps}"
        if self.scores is not None and not all(math.isfinite(score) for score in self.scores):
            return "a score is not finite"
        return None


@dataclass(frozen=True)
class Verified:
    """What a verify step found out.

    Attributes:
        root: the token that was sure before.
        tree: as it was proposed.
        accepted: indices into the tree's tokens of the accepted path, from the root on.
        bonus: the target's own token after it.
        node_topk: [N + 1, K] ids of every node's likeliest next tokens, the root's first; None unless asked for.
        hidden: [accepted + 1, D] float32, the target's hidden states at the root and the accepted nodes (numpy), or
            [accepted + 1, L * D] of L layers side by side; None unless asked for.
    """

    root: int
    tree: TokenTree
    accepted: Sequence[int]
    bonus: int
    node_topk: Any = None
    hidden: Any = None


@dataclass(frozen=True)
class Context:
    """A request that wants a tree: its id and all its tokens, the last of which is the root."""

    request_id: str
    tokens: Sequence[int]


class Proposer(Protocol):
    """Proposes trees. Called by one thread at a time; what it raises fails the cell, with the architecture's name."""

    def on_prefill(self, request_id: str, tokens: Sequence[int], hidden: Any = None) -> None:
        """A request begins: its prompt and the target's first token; `hidden` [D], or [L * D], is the last
        prompt token's."""

    def propose(self, requests: Sequence[Context]) -> Sequence[TokenTree]:
        """One tree for each request of the batch, in their order, each within the tree's budget."""

    def on_verify(self, request_id: str, verified: Verified) -> None:
        """A tree was verified; the request's tokens grow by the accepted path and the bonus token."""

    def on_finish(self, request_id: str) -> None:
        """The request left the batch: finished, aborted or put back."""

    def reset(self) -> None:
        """Forget everything learnt online."""


class StatefulOptions(Options):
    """Options of a proposer that learns online."""

    state: Literal["reset", "keep"] = "reset"
    """`reset` forgets what was learnt before each cell; `keep` does not: later cells profit from earlier ones."""


def ngram_arguments(tree: Tree, options: Options) -> dict[str, int | str]:
    """The tree as SGLang's NGRAM takes it.

    The trie keeps n-grams that are one token longer than the tree is deep, so that no draft goes deeper.
    """
    return {
        "speculative_num_steps": tree.num_steps,
        "speculative_num_draft_tokens": tree.num_draft_tokens,
        "speculative_ngram_max_bfs_breadth": tree.topk,
        "speculative_ngram_max_trie_depth": tree.num_steps + 1,
    }


_TOKENS_ALONE = Needs()


def proposer_spec(
    name: str,
    title: str,
    origin: str,
    factory: str,
    needs: Needs = _TOKENS_ALONE,
    options: type[Options] = Options,
    read: Callable[[Checkpoint, Any, Tree], Loadable] | None = None,
) -> DraftSpec:
    """The spec of such a draft; it runs under SGLang's NGRAM, whose drafts have no KV cache either.

    Args:
        factory: "package.module:name", called as name(options, tree, vocab_size) in the engine's process.
        needs: what it looks at besides tokens.
        read: where an arm may give a checkpoint, checks it, as in `DraftSpec`; its folder is then the factory's fourth
            argument, and the facts that it expects are {"proposer": the class's name} and what its `facts()` says.
    """
    return DraftSpec(
        name=name,
        title=title,
        origin=origin,
        sglang_algorithm="NGRAM",
        draft_model_class=None,
        needs_checkpoint=False,
        capabilities=Capabilities(needs, online_state=issubclass(options, StatefulOptions), children="own"),
        options=options,
        read=read or as_found,
        takes_checkpoint=read is not None,
        largest_tree=full_tree,
        engine_arguments=ngram_arguments,
        proposer_factory=factory,
    )
