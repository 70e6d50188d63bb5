"""What the adapter adds to a round beyond a proposer's own work: guarding, checking, laying out and reading back trees.

Timed around a proposer that does nothing, without an engine, at batch 1 and 8 with full trees of 16 nodes.

python benchmarks/adapter.py
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from statistics import median

import numpy as np

from draftbench.drafts.api import Tree
from draftbench.drafts.proposer import Context, TokenTree, Verified
from draftbench.harness.runtime.drafts.guarded import Guarded
from draftbench.harness.runtime.drafts.verify_tree import accepted_path, padded, tree_mask

BUDGET = Tree(5, 4, 16)
FULL = TokenTree(list(range(15)), [-1, -1, -1, -1, 0, 0, 1, 4, 4, 5, 7, 7, 8, 10, 10])


class Idle:
    """Answers at once."""

    def propose(self, requests: Sequence[Context]) -> list[TokenTree]:
        """The same tree for all."""
        return [FULL] * len(requests)

    def on_verify(self, request_id: str, verified: Verified) -> None:
        """Nothing."""


def round_s(guard: Guarded, batch: int) -> float:
    """One round's work of the adapter."""
    contexts = [Context(str(row), range(500)) for row in range(batch)]
    began = time.perf_counter()
    trees = guard.trees(contexts)
    drafts: list[int] = []
    masks = []
    for tree in trees:
        tokens, parents = padded(tree, 15, 0)
        drafts += [1, *tokens]
        masks.append(tree_mask(parents).ravel())
    np.array(drafts), np.concatenate(masks)
    calls = []
    for context, tree in zip(contexts, trees, strict=True):
        path = accepted_path(tree, [0, 4, 7])
        calls.append(("on_verify", (context.request_id, Verified(1, tree, path, 2))))
    guard.ask(*calls)
    return time.perf_counter() - began


def main() -> None:
    """Print the medians."""
    guard = Guarded(Idle(), BUDGET, 2048, print)  # type: ignore[arg-type]  # only what a round calls
    for batch in (1, 8):
        times = [round_s(guard, batch) for _ in range(2000)]
        print(f"batch {batch}: {1000 * median(times):.3f} ms a round")


if __name__ == "__main__":
    main()
