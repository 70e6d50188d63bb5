"""The stand-in operators against plain loops written from their definitions."""

from __future__ import annotations

import importlib.util
import random
import sys
from types import ModuleType

import pytest
import torch

from draftbench.harness.runtime.cpu.environment import SHIM_FOLDER


@pytest.fixture(scope="module")
def ops() -> ModuleType:
    """The shim, loaded by path so that a real sgl_kernel is never shadowed."""
    path = SHIM_FOLDER / "sgl_kernel" / "__init__.py"
    spec = importlib.util.spec_from_file_location("draftbench_shim", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules["draftbench_shim"] = module
    spec.loader.exec_module(module)
    return module


def test_an_operator_that_is_missing_says_so_when_called(ops):
    """Importing an unknown operator works, calling it names it."""
    with pytest.raises(RuntimeError, match=r"sgl_kernel\.moe_align is not available"):
        ops.moe_align(1)


def test_slots_are_written_and_gathered_by_ragged_ranges(ops):
    """Two requests with 2 and 3 new slots, packed one after the other."""
    pool = torch.zeros(4, 8, dtype=torch.int32)
    rows, start, end = torch.tensor([3, 1]), torch.tensor([1, 0]), torch.tensor([3, 3])
    ops.assign_req_to_token_pool_cpu(rows, pool, start, end, torch.tensor([7, 8, 9, 10, 11]), 8)
    assert pool[3].tolist() == [0, 7, 8, 0, 0, 0, 0, 0]
    assert pool[1].tolist() == [9, 10, 11, 0, 0, 0, 0, 0]
    out = torch.zeros(5, dtype=torch.int64)
    ops.assign_extend_cache_locs_cpu(rows, pool, start, end, out, 8)
    assert out.tolist() == [7, 8, 9, 10, 11]
    draft = torch.zeros(4, dtype=torch.int64)
    ops.assign_draft_cache_locs_contiguous_cpu(rows, pool, torch.tensor([1, 0]), draft, 8, 2, 1)
    assert draft.tolist() == [7, 8, 9, 10]


def test_kv_entries_move_without_overwriting_sources(ops):
    """A swap of two slots in two layers: every source is read before the first write."""
    layers = [torch.arange(12.0).view(4, 3), torch.arange(12.0, 24.0).view(4, 3)]
    before = [layer.clone() for layer in layers]
    pointers = torch.tensor([layer.data_ptr() for layer in layers], dtype=torch.uint64)
    strides = torch.tensor([layer.stride(0) * 4 for layer in layers])
    ops.copy_all_layer_kv_cache_cpu(pointers, strides, torch.tensor([0, 2, 3]), torch.tensor([2, 0, 3]))
    for layer, old in zip(layers, before, strict=True):
        assert torch.equal(layer, old[[2, 1, 0, 3]])


def test_accepted_slots_are_compacted_and_the_tail_left(ops):
    """Entries of −1 are skipped; places beyond the accepted ones keep what they had."""
    out = torch.full((4,), 99)
    ops.fill_accept_out_cache_loc_cpu(torch.tensor([[0, 2], [-1, 3]]), torch.tensor([10, 11, 12, 13]), out)
    assert out.tolist() == [10, 12, 13, 99]
    bonus = torch.zeros(2, dtype=torch.int32)
    ops.fill_bonus_tokens_cpu(torch.tensor([5, 6, 7, 8, 9, 4]), torch.tensor([2, 3]), bonus, 3)
    assert bonus.tolist() == [6, 4]


def random_tree(rng: random.Random, topk: int, depth: int, size: int) -> tuple[list[int], list[int], list[int]]:
    """Candidates as SGLang numbers them, with random survivors: parent list, selected candidates, their parents."""
    entries = [-1, *range(topk)]
    alive = {c: -1 for c in range(topk)}
    survivors = list(range(topk))
    offset = topk
    for step in range(1, depth):
        fresh = {offset + b * topk + j: survivors[b] for b in range(topk) for j in range(topk)}
        alive.update(fresh)
        survivors = sorted(rng.sample(sorted(fresh), topk))
        offset += topk * topk
        if step < depth - 1:
            entries += survivors
    selected: set[int] = set()
    while len(selected) < size - 1:
        ready = [c for c, parent in alive.items() if c not in selected and (parent == -1 or parent in selected)]
        selected.add(rng.choice(ready))
    order = sorted(selected)
    return entries, order, [alive[c] for c in order]


@pytest.mark.parametrize("seed", range(20))
def test_trees_are_linked_masked_and_placed(ops, seed):
    """Mask, positions and links of a random tree equal those found by following parents one by one."""
    rng = random.Random(seed)
    topk, depth, size = rng.choice(((2, 3, 6), (4, 5, 16), (3, 2, 5)))
    trees = [random_tree(rng, topk, depth, size) for _ in range(2)]
    lengths = [rng.randint(1, 50) for _ in trees]
    mask = torch.ones(2 * size * size, dtype=torch.bool)
    positions = torch.empty(2 * size, dtype=torch.long)
    index, child, sibling = torch.full((3, 2, size), -1, dtype=torch.long)
    ops.build_tree_kernel_efficient_cpu(
        torch.tensor([tree[0] for tree in trees]),
        torch.tensor([tree[1] for tree in trees]),
        torch.tensor(lengths),
        mask, positions, index, child, sibling, topk, depth, size, 1,
    )  # fmt: skip
    for row, (_, selected, parents) in enumerate(trees):
        node = {candidate: number for number, candidate in enumerate(selected, 1)} | {-1: 0}
        parent_of = {number: node[parent] for number, parent in enumerate(parents, 1)}
        for number in range(size):
            line, at = {number}, number
            while at:
                at = parent_of[at]
                line.add(at)
            seen = mask.view(2, size, size)[row, number].nonzero().flatten().tolist()
            assert set(seen) == line
            assert positions[row * size + number] == lengths[row] + len(line) - 1
            children = [n for n in range(1, size) if parent_of[n] == number]
            assert follow(child[row], sibling[row], number) == children
    assert index.flatten().tolist() == list(range(2 * size))


def follow(child: torch.Tensor, sibling: torch.Tensor, node: int) -> list[int]:
    found, at = [], int(child[node])
    while at != -1:
        found.append(at)
        at = int(sibling[at])
    return found


def chain(size: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    child = torch.tensor([[*range(1, size), -1]])
    return torch.arange(size)[None], child, torch.full((1, size), -1)


def test_greedy_verification_follows_the_target(ops):
    """A root with children 7 and 8, and 9 below 8; the target says 8, 9, then 5: two drafts and a bonus token."""
    predicts = torch.zeros(4, dtype=torch.int32)
    accepted, count = torch.full((1, 4), -1, dtype=torch.int32), torch.zeros(1, dtype=torch.int32)
    ops.verify_tree_greedy_cpu(
        predicts, accepted, count,
        candidates=torch.tensor([[1, 7, 8, 9]]),
        retrive_index=torch.arange(4)[None],
        retrive_next_token=torch.tensor([[1, -1, 3, -1]]),
        retrive_next_sibling=torch.tensor([[-1, 2, -1, -1]]),
        target_predict=torch.tensor([[8, 0, 9, 5]]),
    )  # fmt: skip
    assert accepted.tolist() == [[0, 2, 3, -1]]
    assert count.tolist() == [2]
    assert predicts.tolist() == [8, 0, 9, 5]


def test_sampling_along_a_tree_keeps_the_targets_distribution(ops):
    """The first emitted token over 20,000 draws follows the target's probabilities, whatever the children are."""
    torch.manual_seed(0)
    draws, probs = 20_000, torch.tensor([0.1, 0.2, 0.3, 0.4])
    counts = torch.zeros(4)
    for _ in range(draws):
        predicts = torch.zeros(3, dtype=torch.int32)
        ops.tree_speculative_sampling_target_only(
            predicts,
            torch.full((1, 2), -1, dtype=torch.int32),
            torch.zeros(1, dtype=torch.int32),
            candidates=torch.tensor([[0, 2, 1]]),
            retrive_index=torch.arange(3)[None],
            retrive_next_token=torch.tensor([[1, -1, -1]]),
            retrive_next_sibling=torch.tensor([[-1, 2, -1]]),
            uniform_samples=torch.rand(1, 3),
            uniform_samples_for_final_sampling=torch.rand(1),
            target_probs=probs.expand(1, 3, 4),
            draft_probs=torch.zeros(1, 3, 4),
        )
        counts[predicts[0]] += 1
    expected = probs * draws
    chi_squared = ((counts - expected) ** 2 / expected).sum()
    assert chi_squared < 16.3  # 99.9% point at 3 degrees of freedom


def test_renormalisation_keeps_the_most_probable(ops):
    """top-k 2 and top-p 0.6 of (0.5, 0.3, 0.2)."""
    probs = torch.tensor([[0.5, 0.3, 0.2]])
    assert ops.top_k_renorm_prob(probs, torch.tensor([2])).tolist()[0] == pytest.approx([0.625, 0.375, 0])
    assert ops.top_p_renorm_prob(probs, torch.tensor([0.6])).tolist()[0] == pytest.approx([0.625, 0.375, 0])
    assert ops.top_p_renorm_prob(probs, torch.tensor([0.5])).tolist()[0] == pytest.approx([1, 0, 0])


def test_ngram_links_are_read_off_the_mask():
    """A root with two children, the second with a child of its own."""
    path = SHIM_FOLDER / "sgl_kernel" / "speculative.py"
    spec = importlib.util.spec_from_file_location("draftbench_shim_speculative", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    mask = torch.tensor([[1, 0, 0, 0], [1, 1, 0, 0], [1, 0, 1, 0], [1, 0, 1, 1]], dtype=torch.bool)
    positions = torch.zeros(4, dtype=torch.long)
    index, child, sibling = torch.full((3, 1, 4), -1, dtype=torch.long)
    module.reconstruct_indices_from_tree_mask(
        mask.flatten(), torch.tensor([10]), positions, index, child, sibling, 1, 4
    )
    assert positions.tolist() == [10, 11, 11, 12]
    assert child.tolist() == [[1, -1, 3, -1]]
    assert sibling.tolist() == [[-1, 2, -1, -1]]
