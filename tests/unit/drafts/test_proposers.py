"""Trees of drafts without a KV cache: what a tree is, how the verifier gets it, and what each draft proposes."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from draftbench.drafts.adaptive_trigram.spec import AdaptiveTrigramOptions
from draftbench.drafts.api import Tree
from draftbench.drafts.prompt_lookup.proposer import PromptLookup
from draftbench.drafts.prompt_lookup.spec import PromptLookupOptions
from draftbench.drafts.proposer import Context, TokenTree, Verified
from draftbench.drafts.token_recycling.proposer import TokenRecycling, fixed_paths
from draftbench.drafts.token_recycling.spec import TokenRecyclingOptions
from draftbench.harness.runtime.cpu.environment import SHIM_FOLDER
from draftbench.harness.runtime.drafts.verify_tree import accepted_path, padded, tree_mask

SPEC = importlib.util.spec_from_file_location("shim", SHIM_FOLDER / "sgl_kernel" / "speculative.py")
assert SPEC is not None
assert SPEC.loader is not None
VERIFIER = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(VERIFIER)
BUDGET = Tree(num_steps=4, topk=3, num_draft_tokens=10)
VOCAB = 50


@st.composite
def trees(draw: st.DrawFn) -> TokenTree:
    """Sound trees of every shape within the budget."""
    tokens: list[int] = []
    parents: list[int] = []
    depths: list[int] = []
    for node in range(draw(st.integers(0, BUDGET.num_draft_tokens - 1))):
        allowed = [-1, *(place for place in range(node) if depths[place] < BUDGET.num_steps)]
        parent = draw(st.sampled_from(allowed))
        taken = {token for token, other in zip(tokens, parents, strict=True) if other == parent}
        tokens.append(draw(st.integers(0, VOCAB - 1).filter(lambda token, taken=taken: token not in taken)))
        parents.append(parent)
        depths.append(1 if parent < 0 else depths[parent] + 1)
    return TokenTree(tokens, parents)


def path_to(parents: Sequence[int], node: int) -> list[int]:
    """The nodes from the root's child to a node, by following parents."""
    path = [node]
    while parents[path[0]] >= 0:
        path.insert(0, parents[path[0]])
    return path


@given(trees())
def test_sound_trees_pass(tree: TokenTree) -> None:
    """Whatever keeps the rules has no problem."""
    assert tree.problem(BUDGET, VOCAB) is None


@pytest.mark.parametrize(
    ("tree", "said"),
    [
        (TokenTree([1, 2], [-1]), "2 tokens with 1 parents"),
        (TokenTree(range(10), [-1] * 10), "10 nodes; num_draft_tokens allows 9 and the root"),
        (TokenTree([VOCAB], [-1]), "node 0 holds token 50; the vocabulary has 50"),
        (TokenTree([-1], [-1]), "node 0 holds token -1"),
        (TokenTree([1, 2], [1, -1]), "node 0 has parent 1; a parent is an earlier node"),
        (TokenTree([1], [0]), "node 0 has parent 0"),
        (TokenTree([1], [-2]), "node 0 has parent -2"),
        (TokenTree([1, 1], [-1, -1]), "node 1 repeats token 1 below parent -1"),
        (TokenTree([1, 2, 3, 4, 5], [-1, 0, 1, 2, 3]), "node 4 is 5 deep; num_steps is 4"),
        (TokenTree([1], [-1], [math.nan]), "a score is not finite"),
    ],
)
def test_malformed_trees_are_told(tree: TokenTree, said: str) -> None:
    """Each rule that is broken is named with the node."""
    problem = tree.problem(BUDGET, VOCAB)
    assert problem is not None
    assert said in problem


@given(trees(), st.integers(0, 3))
def test_masks_show_ancestors_alone(tree: TokenTree, room: int) -> None:
    """Every node sees the root, its ancestors and itself; fillers make up the number and hang below what is there."""
    size = BUDGET.num_draft_tokens - 1 + room
    tokens, parents = padded(tree, size, filler=7)
    assert len(tokens) == len(parents) == size
    assert tokens[: len(tree.tokens)] == list(tree.tokens)
    mask = tree_mask(parents)
    for node in range(size + 1):
        seen = {0} if node == 0 else {0, *(place + 1 for place in path_to([p - 1 for p in parents], node - 1))}
        assert set(np.flatnonzero(mask[node])) == seen
    children: dict[int, set[int]] = {}
    for token, parent in zip(tokens, parents, strict=True):
        assert token not in children.setdefault(parent, set())
        children[parent].add(token)


@given(st.lists(trees(), min_size=1, max_size=3))
def test_positions_and_links_are_those_of_the_trees(batch: list[TokenTree]) -> None:
    """What the verifier reads off the masks: positions count depths, links lead to every child in its order."""
    size = BUDGET.num_draft_tokens
    all_parents = [padded(tree, size - 1, filler=7)[1] for tree in batch]
    masks = torch.from_numpy(np.stack([tree_mask(parents) for parents in all_parents]))
    lengths = torch.tensor([10 * (row + 1) for row in range(len(batch))])
    positions = torch.zeros(len(batch) * size, dtype=torch.long)
    index, child, sibling = torch.full((3, len(batch), size), -1, dtype=torch.long)
    VERIFIER.reconstruct_indices_from_tree_mask(
        masks.flatten(), lengths, positions, index, child, sibling, len(batch), size
    )
    assert index.flatten().tolist() == list(range(len(batch) * size))
    for row, parents in enumerate(all_parents):
        depths = [0, *(len(path_to([p - 1 for p in parents], node)) for node in range(size - 1))]
        assert positions.view(len(batch), size)[row].tolist() == [int(lengths[row]) + depth for depth in depths]
        for node in range(size):
            found, at = [], int(child[row, node])
            while at >= 0:
                found.append(at)
                at = int(sibling[row, at])
            assert found == [place for place, parent in enumerate(parents, 1) if parent == node]


@given(trees(), st.data())
def test_the_accepted_path_is_found_again(tree: TokenTree, data: st.DataObject) -> None:
    """From the tokens that the engine accepted, the nodes; tokens beyond the tree belong to no node."""
    path = path_to(tree.parents, data.draw(st.integers(0, len(tree.tokens) - 1))) if tree.tokens else []
    tokens = [tree.tokens[node] for node in path]
    assert accepted_path(tree, tokens) == path
    leaf = path[-1] if path else -1
    if leaf not in tree.parents:
        assert accepted_path(tree, [*tokens, 3]) == path


def paths_of(tree: TokenTree) -> list[tuple[int, ...]]:
    return [tuple(tree.tokens[place] for place in path_to(tree.parents, node)) for node in range(len(tree.tokens))]


@settings(max_examples=200)
@given(st.lists(st.integers(0, 3), min_size=1, max_size=40))
def test_prompt_lookup_proposes_what_brute_force_finds(tokens: list[int]) -> None:
    """Continuations of earlier occurrences of the request's end, longer ends first, later places first."""
    proposer = PromptLookup(PromptLookupOptions(), BUDGET, VOCAB)
    (tree,) = proposer.propose([Context("r", tokens)])
    assert tree.problem(BUDGET, VOCAB) is None
    wanted: list[tuple[int, ...]] = []
    places = []
    for size in (3, 2, 1):
        for place in range(len(tokens) - 1, size - 1, -1):
            if tokens[place - size : place] == tokens[-size:] and place not in places:
                places.append(place)
    for place in places:
        for depth in range(1, BUDGET.num_steps + 1):
            path = tuple(tokens[place : place + depth])
            if len(path) < depth or path in wanted:
                continue
            siblings = sum(len(other) == depth and other[:-1] == path[:-1] for other in wanted)
            if siblings == BUDGET.topk or (depth > 1 and path[:-1] not in wanted):
                break
            wanted.append(path)
    assert paths_of(tree) == wanted[: BUDGET.num_draft_tokens - 1]


def test_the_fixed_tree_fills_the_budget_and_is_a_tree() -> None:
    """Token Recycling's paths: as many as allowed, parents first, wider near the root and below likelier ranks."""
    paths = fixed_paths(Tree(5, 4, 16), 0.7)
    assert len(paths) == len(set(paths)) == 15
    assert all(len(path) == 1 or path[:-1] in paths for path in paths)
    assert {(0,), (1,), (2,), (0, 0), (0, 0, 0)} <= set(paths)
    assert max(len(path) for path in paths) <= 5


def test_token_recyclings_table_is_what_was_seen_last() -> None:
    """The table equals one rebuilt from the verified nodes in their order; the tree is read from it."""
    rng = np.random.default_rng(0)
    proposer, rebuilt = TokenRecycling(TokenRecyclingOptions(), BUDGET, VOCAB), np.full((VOCAB, 8), -1)
    tokens = [5]
    for _ in range(60):
        (tree,) = proposer.propose([Context("r", tokens)])
        assert tree.problem(BUDGET, VOCAB) is None
        for node, (token, parent) in enumerate(zip(tree.tokens, tree.parents, strict=True)):
            above = tokens[-1] if parent < 0 else tree.tokens[parent]
            assert token in rebuilt[above], node
        topk = np.array([rng.permutation(VOCAB)[:8] for _ in range(len(tree.tokens) + 1)])
        proposer.on_verify("r", Verified(tokens[-1], tree, [], int(topk[0, 0]), node_topk=topk))
        for token, row in zip((tokens[-1], *tree.tokens), topk, strict=True):
            rebuilt[token] = row
        tokens.append(int(rng.integers(8)))
    assert (proposer.successors_VK == rebuilt).all()
    proposer.reset()
    assert (proposer.successors_VK == -1).all()


def test_kept_state_outlives_a_flush() -> None:
    """`state: keep` is the suite's explicit choice."""
    proposer = TokenRecycling(TokenRecyclingOptions(state="keep"), BUDGET, VOCAB)
    proposer.on_verify("r", Verified(3, TokenTree((), ()), [], 9, node_topk=np.arange(8)[None]))
    proposer.reset()
    assert proposer.successors_VK[3].tolist() == list(range(8))
    with pytest.raises(ValidationError, match="'reset' or 'keep'"):
        AdaptiveTrigramOptions(state="sometimes")
