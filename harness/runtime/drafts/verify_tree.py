"""A proposer's tree in the form that the verifier takes: a fixed number of nodes and who sees whom. No SGLang."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from draftbench.drafts.proposer import TokenTree


def padded(tree: TokenTree, size: int, filler: int) -> tuple[list[int], list[int]]:
    """Tokens and parents of exactly `size` nodes below the root, node numbers counted with the root as 0.

    A chain of fillers hangs below the last node, where it can be reached only by what the target would not say.
    """
    tokens, parents = list(tree.tokens), [parent + 1 for parent in tree.parents]
    while len(tokens) < size:
        parents.append(len(tokens))
        tokens.append(filler)
    return tokens, parents


def tree_mask(parents: Sequence[int]) -> np.ndarray:
    """[n, n] bool: row i marks node i, its ancestors and the root."""
    size = len(parents) + 1
    mask = np.eye(size, dtype=bool)
    mask[:, 0] = True
    for node, parent in enumerate(parents, 1):
        mask[node] |= mask[parent]
    return mask


def accepted_path(tree: TokenTree, tokens: Sequence[int]) -> list[int]:
    """Indices of the nodes that spell the accepted tokens, as far as the tree holds them."""
    children = {link: node for node, link in enumerate(zip(tree.parents, tree.tokens, strict=True))}
    path: list[int] = []
    for token in tokens:
        node = children.get((path[-1] if path else -1, token))
        if node is None:
            break
        path.append(node)
    return path
