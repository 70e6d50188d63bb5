"""Medusa's trees against brute force, and in the form that SGLang's tree builder reads."""

from __future__ import annotations

import math
from itertools import product

import pytest
import torch

from draftbench.drafts.medusa.tree import TreeTable, possible_paths
from draftbench.harness.runtime.cpu.shim.sgl_kernel import build_tree_kernel_efficient_cpu

SIZES = [(4, 4, 15), (1, 4, 3), (3, 1, 3), (4, 2, 20), (4, 6, 40), (2, 3, 12), (6, 3, 7)]


def random_heads(batch: int, num_steps: int, topk: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Probabilities that fall with the rank, and tokens that tell head and rank."""
    generator = torch.Generator().manual_seed(seed)
    probs = torch.rand(batch, num_steps, topk, generator=generator).sort(dim=-1, descending=True).values
    tokens = torch.arange(num_steps * topk).view(1, num_steps, topk).expand(batch, -1, -1) + 100
    return probs, tokens


def built_paths(parents: torch.Tensor, codes: torch.Tensor, tokens: torch.Tensor, size: tuple[int, int, int, int]):
    """What the engine's tree builder makes of the selection: each node's tokens from the root on."""
    steps, stride, nodes, batch = size
    mask = torch.zeros(batch * nodes * nodes, dtype=torch.bool)
    positions = torch.zeros(batch * nodes, dtype=torch.long)
    index, child, sibling = (torch.zeros(batch, nodes, dtype=torch.long) for _ in range(3))
    lengths = torch.zeros(batch, dtype=torch.long)
    build_tree_kernel_efficient_cpu(
        parents, codes, lengths, mask, positions, index, child, sibling, stride, steps, nodes, 1
    )
    mask = mask.view(batch, nodes, nodes)
    return [
        [[int(tokens[row, node - 1]) for node in range(1, nodes) if mask[row, last, node]] for last in range(1, nodes)]
        for row in range(batch)
    ]


@pytest.mark.parametrize("size", SIZES)
def test_the_most_probable_paths_are_taken(size: tuple[int, int, int]) -> None:
    """The tree holds the best paths of all, whatever the probabilities."""
    num_steps, topk, num_nodes = size
    table = TreeTable(possible_paths(*size), *size, "cpu")
    probs, tokens = random_heads(6, num_steps, topk, seed=1)
    found = built_paths(*table.select(probs, tokens), (num_steps, table.stride, num_nodes + 1, 6))
    every = [path for depth in range(1, num_steps + 1) for path in product(range(topk), repeat=depth)]
    for row in range(6):
        score = {path: math.prod(float(probs[row, k, rank]) for k, rank in enumerate(path)) for path in every}
        best = sorted(every, key=lambda path: -score[path])[:num_nodes]
        said = {tuple((token - 100) % topk for token in path) for path in found[row]}
        assert len(said) == num_nodes
        assert sum(score[path] for path in said) == pytest.approx(sum(score[path] for path in best), rel=1e-5)


def test_certain_and_impossible_candidates_keep_parents_before_children() -> None:
    """Where scores tie, at one or at zero, no node is taken without its parent."""
    size = (4, 3, 12)
    table = TreeTable(possible_paths(*size), *size, "cpu")
    probs, tokens = random_heads(3, 4, 3, seed=2)
    probs[0] = torch.tensor([1.0, 0.0, 0.0])
    probs[1] = 1e-30
    found = built_paths(*table.select(probs, tokens), (4, table.stride, 13, 3))
    for row in range(3):
        paths = {tuple(path) for path in found[row]}
        assert len(paths) == 12
        assert all(path[:-1] in paths or len(path) == 1 for path in paths)


def test_given_choices_are_the_tree() -> None:
    """A published list of choices is built as it is."""
    choices = [(0,), (1,), (0, 0), (0, 1), (1, 0), (0, 0, 0), (2,)]
    table = TreeTable(choices, 3, 3, 7, "cpu")
    probs, tokens = random_heads(2, 3, 3, seed=3)
    for paths in built_paths(*table.select(probs, tokens), (3, table.stride, 8, 2)):
        assert {tuple((token - 100) % 3 for token in path) for path in paths} == set(choices)
