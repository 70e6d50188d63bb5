"""A stand-in for SGLang's `sgl_kernel` on hosts without a GPU: the operators of speculative decoding in plain torch.

SGLang 0.5.17 imports `sgl_kernel` before any plugin is loaded, its CPU build is not published as a package, and the
CUDA build does not load here. Only engine processes on hosts without a GPU find this module, by PYTHONPATH. All
operators are in this module, where SGLang looks for them; each writes its results into the tensors it is given, as the
originals do (signatures: the call sites in sglang/srt/speculative, sglang/srt/mem_cache/allocation.py and
sglang/kernels/ops, 0.5.17).

Shapes: B requests, n nodes of a request's token tree with the root, P slots of the KV pool.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any, NoReturn

import torch


def __getattr__(name: str) -> Callable[..., NoReturn]:
    """Any other operator can be imported, and says what is wrong when it is called."""
    if name.startswith("__"):
        raise AttributeError(name)

    def missing(*args: Any, **kwargs: Any) -> NoReturn:
        raise RuntimeError(f"sgl_kernel.{name} is not available on hosts without a GPU (draftbench's CPU runtime)")

    return missing


# --- slots of the KV pool ---


def assign_req_to_token_pool_cpu(
    req_pool_indices: torch.Tensor,
    req_to_token: torch.Tensor,
    start: torch.Tensor,
    end: torch.Tensor,
    out_cache_loc: torch.Tensor,
    pool_len: int,
) -> None:
    """Write each request's new slots, packed request after request, into its row of req_to_token at [start, end)."""
    taken = 0
    for row, first, last in zip(req_pool_indices.tolist(), start.tolist(), end.tolist(), strict=True):
        count = last - first
        req_to_token[row, first:last] = out_cache_loc[taken : taken + count].to(req_to_token.dtype)
        taken += count


def assign_extend_cache_locs_cpu(
    req_pool_indices: torch.Tensor,
    req_to_token: torch.Tensor,
    start: torch.Tensor,
    end: torch.Tensor,
    out_cache_loc: torch.Tensor,
    pool_len: int,
) -> None:
    """The reverse: pack each request's slots at [start, end) of req_to_token into out_cache_loc."""
    written = 0
    for row, first, last in zip(req_pool_indices.tolist(), start.tolist(), end.tolist(), strict=True):
        count = last - first
        out_cache_loc[written : written + count] = req_to_token[row, first:last].to(out_cache_loc.dtype)
        written += count


def assign_draft_cache_locs_contiguous_cpu(
    req_pool_indices: torch.Tensor,
    req_to_token: torch.Tensor,
    seq_lens: torch.Tensor,
    out_cache_loc: torch.Tensor,
    pool_len: int,
    topk: int,
    num_steps: int,
) -> None:
    """Pack each request's topk x num_steps slots behind its sequence, where the draft writes, into out_cache_loc."""
    assign_extend_cache_locs_cpu(
        req_pool_indices, req_to_token, seq_lens, seq_lens + topk * num_steps, out_cache_loc, pool_len
    )


def copy_all_layer_kv_cache_cpu(
    data_ptrs: torch.Tensor, strides: torch.Tensor, tgt_loc: torch.Tensor, src_loc: torch.Tensor
) -> None:
    """Move the KV entries of all layers from src to tgt slots; every source is read before the first write.

    Args:
        data_ptrs: address of each layer's buffer, [num_buffers] uint64.
        strides: bytes of one slot in each buffer, [num_buffers].
    """
    moves = [(t, s) for t, s in zip(tgt_loc.tolist(), src_loc.tolist(), strict=True) if t != s]
    for address, stride in zip(data_ptrs.tolist(), strides.tolist(), strict=True):
        entries = [ctypes.string_at(address + source * stride, stride) for _, source in moves]
        for (target, _), entry in zip(moves, entries, strict=True):
            ctypes.memmove(address + target * stride, entry, stride)


# --- after verification ---


def fill_accept_out_cache_loc_cpu(
    accept_index: torch.Tensor, out_cache_loc: torch.Tensor, accept_out_cache_loc: torch.Tensor
) -> None:
    """The slots of the accepted nodes, compacted to the front; the tail is left as it is."""
    flat = accept_index.flatten()
    kept = out_cache_loc[flat[flat > -1]]
    accept_out_cache_loc[: kept.numel()] = kept


def fill_bonus_tokens_cpu(
    accept_tokens: torch.Tensor, accept_lens: torch.Tensor, bonus_tokens: torch.Tensor, accept_stride: int
) -> None:
    """Each request's last accepted token, the bonus token; accept_lens counts it."""
    rows = torch.arange(accept_lens.numel()) * accept_stride
    bonus_tokens.copy_(accept_tokens.flatten()[rows + accept_lens - 1])


def rotate_input_ids_cpu(
    input_ids: torch.Tensor,
    extend_start_loc: torch.Tensor,
    extend_seq_lens: torch.Tensor,
    topk_index: torch.Tensor,
    select_index: torch.Tensor | None = None,
) -> NoReturn:
    """Imported by SGLang at start, used by its multi-layer EAGLE only."""
    raise RuntimeError("multi-layer EAGLE does not run on hosts without a GPU (draftbench's CPU runtime)")


# --- the token tree ---


def build_tree_kernel_efficient_cpu(
    parent_list: torch.Tensor,
    selected_index: torch.Tensor,
    verified_seq_len: torch.Tensor,
    tree_mask: torch.Tensor,
    positions: torch.Tensor,
    retrive_index: torch.Tensor,
    retrive_next_token: torch.Tensor,
    retrive_next_sibling: torch.Tensor,
    topk: int,
    depth: int,
    draft_token_num: int,
    tree_mask_mode: int,
) -> None:
    """Mask, positions and child links of each request's tree of selected candidates.

    Candidate c was proposed below entry c // topk of parent_list; entry 0 is the root, any other holds the number of
    the candidate that is the parent (sglang/srt/speculative/eagle_utils.py, organize_draft_results, 0.5.17).
    Where scores tie exactly, a candidate can be selected without its parent. Such an orphan cannot be reached: it gets
    no links, and sees the root and itself.

    Args:
        parent_list: [B, topk * (depth - 1) + 1]; selected_index: [B, n - 1], ascending candidate numbers.
        tree_mask: flat [B * n * n] bool (mode QLEN_ONLY), row i marks node i's ancestors and itself.
        positions: flat [B * n]; the retrive tensors: [B, n], links are -1 where there is none.
    """
    if int(tree_mask_mode) != 1:
        raise RuntimeError(f"tree mask mode {tree_mask_mode} is not QLEN_ONLY (1), the only one of the CPU runtime")
    size = draft_token_num
    batch = verified_seq_len.numel()
    parents_of_entries = parent_list.view(batch, -1).tolist()
    mask_Bnn = tree_mask[: batch * size * size].view(batch, size, size)
    for row, (selected, entries, length) in enumerate(
        zip(selected_index.tolist(), parents_of_entries, verified_seq_len.tolist(), strict=True)
    ):
        node_of_candidate = {candidate: node for node, candidate in reversed(list(enumerate(selected, 1)))}
        ancestors: list[list[int]] = [[0]]
        depths = [0]
        first_child, sibling = [-1] * size, [-1] * size
        parents = [-1] * size
        for node, candidate in enumerate(selected, 1):
            entry = candidate // topk
            parent = 0 if entry == 0 else node_of_candidate.get(entries[entry], -1)
            orphan = parent == -1 or parent >= node or (parent > 0 and parents[parent] == -1)
            parents[node] = -1 if orphan else parent
            line = [0] if orphan else ancestors[parent]
            ancestors.append([*line, node])
            depths.append(len(line))
        for node in range(size - 1, 0, -1):
            if parents[node] == -1:
                continue
            sibling[node] = first_child[parents[node]]
            first_child[parents[node]] = node
        mask = [[False] * size for _ in range(size)]
        for node, line in enumerate(ancestors):
            for ancestor in line:
                mask[node][ancestor] = True
        mask_Bnn[row] = torch.tensor(mask)
        positions[row * size : (row + 1) * size] = torch.tensor([length + value for value in depths])
        retrive_index[row] = torch.arange(row * size, (row + 1) * size)
        retrive_next_token[row] = torch.tensor(first_child)
        retrive_next_sibling[row] = torch.tensor(sibling)


def _children(node: int, first_child: list[int], sibling: list[int]) -> list[int]:
    found = []
    child = first_child[node]
    while child != -1:
        found.append(child)
        child = sibling[child]
    return found


def verify_tree_greedy_cpu(
    predicts: torch.Tensor,
    accept_index: torch.Tensor,
    accept_token_num: torch.Tensor,
    candidates: torch.Tensor,
    retrive_index: torch.Tensor,
    retrive_next_token: torch.Tensor,
    retrive_next_sibling: torch.Tensor,
    target_predict: torch.Tensor,
) -> None:
    """Follow the target's own choices down the tree as long as a child has the chosen token.

    Args:
        predicts: flat [B * n] int32, receives the target's token at every accepted node.
        accept_index: [B, max depth + 1] int32, receives the accepted nodes' numbers in the batch, root first.
        accept_token_num: [B] int32, receives the number of accepted drafts, bonus token excluded.
        candidates, target_predict: [B, n] tokens of the tree and the target's argmax at each of its nodes.
    """
    for row in range(candidates.shape[0]):
        tokens, chosen = candidates[row].tolist(), target_predict[row].tolist()
        first_child, sibling = retrive_next_token[row].tolist(), retrive_next_sibling[row].tolist()
        numbers = retrive_index[row].tolist()
        path = [0]
        while len(path) < accept_index.shape[1]:
            hits = [c for c in _children(path[-1], first_child, sibling) if tokens[c] == chosen[path[-1]]]
            if not hits:
                break
            path.append(hits[0])
        _write_path(row, path, [chosen[node] for node in path], numbers, predicts, accept_index, accept_token_num)


def _write_path(
    row: int,
    path: list[int],
    tokens: list[int],
    numbers: list[int],
    predicts: torch.Tensor,
    accept_index: torch.Tensor,
    accept_token_num: torch.Tensor,
) -> None:
    places = torch.tensor([numbers[node] for node in path])
    predicts[places] = torch.tensor(tokens, dtype=predicts.dtype)
    accept_index[row, : len(path)] = places.to(accept_index.dtype)
    accept_token_num[row] = len(path) - 1


def tree_speculative_sampling_target_only(
    predicts: torch.Tensor,
    accept_index: torch.Tensor,
    accept_token_num: torch.Tensor,
    candidates: torch.Tensor,
    retrive_index: torch.Tensor,
    retrive_next_token: torch.Tensor,
    retrive_next_sibling: torch.Tensor,
    uniform_samples: torch.Tensor,
    uniform_samples_for_final_sampling: torch.Tensor,
    target_probs: torch.Tensor,
    draft_probs: torch.Tensor,
    threshold_single: float = 1.0,
    threshold_acc: float = 1.0,
    deterministic: bool = True,
) -> None:
    """Sample along the tree: one uniform number per node picks a child by the children's cumulative target mass.

    If the number falls beyond the children, the bonus token is drawn from what they leave of the target's
    distribution. With both thresholds at 1 the emitted tokens follow the target exactly, for distinct children.

    Args:
        uniform_samples: [B, n]; uniform_samples_for_final_sampling: [B].
        target_probs, draft_probs: [B, n, V]; draft_probs receives the mass of the rejected children.
        Others as in `verify_tree_greedy_cpu`.
    """
    for row in range(candidates.shape[0]):
        tokens, coins = candidates[row].tolist(), uniform_samples[row].tolist()
        first_child, sibling = retrive_next_token[row].tolist(), retrive_next_sibling[row].tolist()
        path, emitted = [0], []
        while len(path) < accept_index.shape[1]:
            node, mass, taken = path[-1], 0.0, None
            for child in _children(node, first_child, sibling):
                share = float(target_probs[row, node, tokens[child]])
                mass += share
                if coins[node] <= mass / threshold_acc or share >= threshold_single:
                    taken = child
                    break
                draft_probs[row, node, tokens[child]] = share
            if taken is None:
                break
            path.append(taken)
            emitted.append(tokens[taken])
        rest_V = (target_probs[row, path[-1]] - draft_probs[row, path[-1]]).clamp_min(0)
        total_V = rest_V.cumsum(0)
        goal = uniform_samples_for_final_sampling[row] * total_V[-1]
        bonus = int(torch.searchsorted(total_V, goal, right=True).clamp_max(int(rest_V.nonzero()[-1])))
        _write_path(row, path, [*emitted, bonus], retrive_index[row].tolist(), predicts, accept_index, accept_token_num)


def top_k_renorm_prob(probs: torch.Tensor, top_ks: torch.Tensor) -> torch.Tensor:
    """Keep each row's top_k most probable tokens, ties with the last of them included, and renormalise; [N, V]."""
    order = probs.sort(dim=-1, descending=True).values
    last = order.gather(1, (top_ks.long().clamp(1, probs.shape[-1]) - 1)[:, None])
    kept = torch.where(probs >= last, probs, 0)
    return kept / kept.sum(dim=-1, keepdim=True)


def top_p_renorm_prob(probs: torch.Tensor, top_ps: torch.Tensor) -> torch.Tensor:
    """Keep each row's smallest set of most probable tokens whose mass reaches top_p, and renormalise; [N, V]."""
    order, tokens = probs.sort(dim=-1, descending=True)
    before = order.cumsum(dim=-1) - order
    kept = torch.zeros_like(probs).scatter(1, tokens, torch.where(before < top_ps[:, None], order, 0))
    return kept / kept.sum(dim=-1, keepdim=True)
