"""Attention for SGLang on the CPU, in plain torch, that knows token trees.

What to read from the KV pool is the same for all layers of a forward pass, so it is planned once per pass: for each
run of queries the slots of its keys and an additive mask. A layer then writes its keys and values, gathers, and calls
torch's scaled_dot_product_attention. Layers with a sliding window (Gemma 2 and 3) add to the mask what lies before it;
layers that cap their scores (Gemma 2) take the long way. All of a backend is in this module, as SGLang's own are.

Shapes: R requests (or branches) of a run, Q queries of each, S keys, H heads, D head size.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from sglang.srt.layers.attention.base_attn_backend import AttentionBackend
from sglang.srt.layers.radix_attention import AttentionType
from torch.nn.functional import scaled_dot_product_attention

BLOCK = -1
"""In place of a window: the whole request is seen."""


@dataclass(frozen=True)
class QueryBlock:
    """Consecutive query tokens of R requests with Q queries each, and what they read."""

    num_requests: int
    slots: torch.Tensor
    """Slots of the keys, flat [R * S]; padded places hold some valid slot and are masked."""
    first: int | None
    """The first slot where the slots of a single request follow each other: then the pool is read in place."""
    mask: torch.Tensor | None
    """Added to the scores, [R, 1, Q or 1, S] float; None where every query sees every key."""
    lengths: tuple[int, ...]
    """Keys of each request."""
    places: tuple[torch.Tensor, torch.Tensor] | None = None
    """Positions of the queries [R, Q] and of the keys [R, S]; known only where some layer has a window."""

    def windowed(self, window: int, dtype: torch.dtype) -> torch.Tensor:
        """The mask of a layer whose queries see `window` positions before their own, and no more."""
        assert self.places is not None
        queries_RQ, keys_RS = self.places
        near = additive(queries_RQ[:, :, None] - keys_RS[:, None, :] <= window, dtype)[:, None]
        return near if self.mask is None else near + self.mask

    def unmasked(self, dtype: torch.dtype) -> torch.Tensor:
        """The mask of a layer whose queries see all of their request's keys."""
        count = self.slots.numel() // self.num_requests
        seen_RS = torch.arange(count)[None, :] < torch.tensor(self.lengths)[:, None]
        return additive(seen_RS, dtype)[:, None, None]


def first_of_sequence(row: torch.Tensor) -> int | None:
    """The first of slots that follow each other without a gap; None if they do not."""
    first = int(row[0])
    follows = int(row[-1]) - first + 1 == row.numel() and bool((row[1:] - row[:-1] == 1).all())
    return first if follows else None


def run_of(rows: list[torch.Tensor], slots: torch.Tensor, mask: torch.Tensor | None) -> QueryBlock:
    """A run over the given rows; a single row of consecutive slots needs no gathering."""
    first = first_of_sequence(rows[0]) if len(rows) == 1 else None
    return QueryBlock(len(rows), slots, first, mask, tuple(row.numel() for row in rows))


def padded_slots(rows: list[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Rows of slots of unequal length as one flat [R * S] tensor, and a [R, S] bool mask of the real ones."""
    if len(rows) == 1:
        return rows[0].long(), None
    lengths = [row.numel() for row in rows]
    padded = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True).long()
    if len(set(lengths)) == 1:
        return padded.flatten(), None
    seen = torch.arange(padded.shape[1])[None, :] < torch.tensor(lengths)[:, None]
    return padded.flatten(), seen


def additive(seen: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """A bool mask as one that is added to the scores: 0 where seen, minus infinity elsewhere."""
    return torch.zeros(seen.shape, dtype=dtype).masked_fill_(~seen, float("-inf"))


def decode_run(rows: list[torch.Tensor], dtype: torch.dtype) -> QueryBlock:
    """One query per row that sees all of the row's slots."""
    slots, seen = padded_slots(rows)
    return run_of(rows, slots, None if seen is None else additive(seen, dtype)[:, None, None, :])


def extend_run(row: torch.Tensor, num_queries: int, dtype: torch.dtype) -> QueryBlock:
    """The last `num_queries` tokens of one request, each of which sees itself and what stands before it."""
    size = row.numel()
    if num_queries == 1:
        return run_of([row], row.long(), None)
    seen = torch.arange(size)[None, :] <= torch.arange(size - num_queries, size)[:, None]
    return run_of([row], row.long(), additive(seen, dtype)[None, None])


def tree_run(rows: list[torch.Tensor], tree_Rnn: torch.Tensor, dtype: torch.dtype) -> QueryBlock:
    """n tree nodes behind each request's prefix: all of the prefix is seen, of the tree what the mask allows.

    Args:
        rows: each request's slots, prefix and tree; tree_Rnn: bool, node by node.
    """
    size = tree_Rnn.shape[1]
    slots, _ = padded_slots(rows)
    mask = torch.full((len(rows), 1, size, max(row.numel() for row in rows)), float("-inf"), dtype=dtype)
    for index, row in enumerate(rows):
        prefix = row.numel() - size
        mask[index, 0, :, :prefix] = 0
        mask[index, 0, :, prefix : prefix + size] = additive(tree_Rnn[index], dtype)
    return run_of(rows, slots, mask)


def placed(run: QueryBlock, queries_RQ: torch.Tensor) -> QueryBlock:
    """The run with its positions: keys stand in their order, but the queries' own, which come last, may be a tree."""
    count = queries_RQ.shape[1]
    keys_RS = torch.arange(run.slots.numel() // run.num_requests).expand(run.num_requests, -1).clone()
    for row, length in enumerate(run.lengths):
        keys_RS[row, length - count : length] = queries_RQ[row]
    return replace(run, places=(queries_RQ, keys_RS))


class TreeAttentionBackend(AttentionBackend):
    """One plan per forward pass, read by every layer."""

    def __init__(self, model_runner: Any) -> None:
        super().__init__()
        self.device = model_runner.device
        self.dtype = model_runner.dtype
        self.req_to_token = model_runner.req_to_token_pool.req_to_token
        self.token_to_kv_pool = model_runner.token_to_kv_pool
        self.runs: list[QueryBlock] = []
        self.has_windows = getattr(model_runner, "sliding_window_size", None) is not None
        self.windowed: dict[tuple[int, int], torch.Tensor] = {}
        """Masks of this pass, by run and window."""

    def support_triton(self) -> bool:
        """The CPU has no Triton."""
        return False

    def init_forward_metadata(self, forward_batch: Any) -> None:
        """Plan the pass: which slots each run of queries reads and what it may see."""
        self.windowed.clear()
        self._plan(forward_batch)
        if self.has_windows:
            positions = self._positions(forward_batch)
            self.runs = [placed(run, own) for run, own in zip(self.runs, positions, strict=True)]

    def _positions(self, forward_batch: Any) -> list[torch.Tensor]:
        """The queries' positions of each run [R, Q]."""
        if len(self.runs) == 1:
            return [forward_batch.positions.view(self.runs[0].num_requests, -1)]
        return [part[None] for part in forward_batch.positions.split(forward_batch.extend_seq_lens.tolist())]

    def _plan(self, forward_batch: Any) -> None:
        mode = forward_batch.forward_mode
        if mode.is_idle():
            self.runs = []
            return
        pool_rows = forward_batch.req_pool_indices.tolist()
        lengths = forward_batch.seq_lens.tolist()
        if mode.is_target_verify():
            self.runs = [self._verify_run(forward_batch, pool_rows, lengths)]
        elif mode.is_decode():
            self.runs = [decode_run(self._rows(pool_rows, lengths), self.dtype)]
        else:
            rows = self._rows(pool_rows, lengths)
            counts = forward_batch.extend_seq_lens.tolist()
            if len(set(counts)) == 1 and len(rows) > 1:
                causal = torch.ones(counts[0], counts[0], dtype=torch.bool).tril()
                self.runs = [tree_run(rows, causal.expand(len(rows), -1, -1), self.dtype)]
            else:
                self.runs = [extend_run(row, count, self.dtype) for row, count in zip(rows, counts, strict=True)]

    def _rows(self, pool_rows: list[int], lengths: list[int]) -> list[torch.Tensor]:
        return [self.req_to_token[row, :length] for row, length in zip(pool_rows, lengths, strict=True)]

    def _verify_run(self, forward_batch: Any, pool_rows: list[int], prefixes: list[int]) -> QueryBlock:
        spec = forward_batch.spec_info
        size = spec.draft_token_num
        rows = self._rows(pool_rows, [prefix + size for prefix in prefixes])
        if (spec.tree_topk if hasattr(spec, "tree_topk") else spec.topk) == 1:
            tree_Rnn = torch.ones(size, size, dtype=torch.bool).tril().expand(len(rows), -1, -1)
        else:
            tree_Rnn = spec.custom_mask[: len(rows) * size * size].view(len(rows), size, size)
        return tree_run(rows, tree_Rnn, self.dtype)

    def forward_extend(
        self,
        q: torch.Tensor,
        k: torch.Tensor | None,
        v: torch.Tensor | None,
        layer: Any,
        forward_batch: Any,
        save_kv_cache: bool = True,
        **kwargs: Any,
    ) -> torch.Tensor:
        """Attention of one layer; q is [tokens, H * D], the result has its shape."""
        keys = self.token_to_kv_pool.get_key_buffer(layer.layer_id)
        values = self.token_to_kv_pool.get_value_buffer(layer.layer_id)
        if save_kv_cache and k is not None and v is not None:
            slots = forward_batch.out_cache_loc
            keys.index_copy_(0, slots, k.view(-1, *keys.shape[1:]))
            values.index_copy_(0, slots, v.view(-1, *values.shape[1:]))
        q = q.reshape(-1, layer.tp_q_head_num * layer.qk_head_dim)  # Gemma 3 hands over [1, tokens, H, D]
        if len(self.runs) == 1:
            return self._attend(q, 0, keys, values, layer)
        counts = forward_batch.extend_seq_lens.tolist()
        parts = [self._attend(part, index, keys, values, layer) for index, part in enumerate(q.split(counts))]
        return torch.cat(parts)

    forward_decode = forward_extend

    def _mask(self, index: int, layer: Any) -> torch.Tensor | None:
        """What one layer adds to the scores of a run."""
        run, window = self.runs[index], layer.sliding_window_size
        if layer.attn_type == AttentionType.ENCODER_ONLY:  # a block whose tokens all see each other
            if (index, BLOCK) not in self.windowed:
                self.windowed[index, BLOCK] = run.unmasked(self.dtype)
            return self.windowed[index, BLOCK]
        if run.places is None or window is None or window < 0:
            return run.mask
        if (index, window) not in self.windowed:
            self.windowed[index, window] = run.windowed(window, self.dtype)
        return self.windowed[index, window]

    def _attend(
        self, q: torch.Tensor, index: int, keys: torch.Tensor, values: torch.Tensor, layer: Any
    ) -> torch.Tensor:
        run, mask = self.runs[index], self._mask(index, layer)
        count = run.num_requests
        q_RHQD = q.view(count, -1, layer.tp_q_head_num, layer.qk_head_dim).transpose(1, 2)
        if run.first is None:
            k, v = keys.index_select(0, run.slots), values.index_select(0, run.slots)
        else:
            size_of_run = run.slots.numel()
            k, v = keys.narrow(0, run.first, size_of_run), values.narrow(0, run.first, size_of_run)
        k_RHSD = k.view(count, -1, *keys.shape[1:]).transpose(1, 2)
        v_RHSD = v.view(count, -1, *values.shape[1:]).transpose(1, 2)
        if layer.logit_cap:
            out = capped_attention(q_RHQD, k_RHSD, v_RHSD, mask, layer.scaling, layer.logit_cap)
        else:
            grouped = layer.tp_q_head_num != layer.tp_k_head_num
            out = scaled_dot_product_attention(
                q_RHQD, k_RHSD, v_RHSD, attn_mask=mask, scale=layer.scaling, enable_gqa=grouped
            )
        return out.transpose(1, 2).reshape(q.shape[0], -1)


def capped_attention(
    q_RHQD: torch.Tensor,
    k_RGSD: torch.Tensor,
    v_RGSD: torch.Tensor,
    mask: torch.Tensor | None,
    scale: float,
    cap: float,
) -> torch.Tensor:
    """Attention whose scores are cap * tanh(score / cap) before the mask, with G key heads for H of queries.

    Source: Gemma 2 (arXiv 2408.00118, section 2, logit soft-capping).
    """
    groups = q_RHQD.shape[1] // k_RGSD.shape[1]
    k, v = k_RGSD.repeat_interleave(groups, 1), v_RGSD.repeat_interleave(groups, 1)
    scores = cap * torch.tanh((q_RHQD @ k.transpose(-1, -2)).float() * scale / cap)
    scores = scores if mask is None else scores + mask
    return scores.softmax(-1).to(v.dtype) @ v


class MultiStepDraftBackend:
    """What SGLang's draft loop expects: one backend per step, all planned before the first.

    Branch t of a request has its own slots behind the sequence, [L + t * num_steps, L + (t + 1) * num_steps), one per
    step (speculative/spec_utils.py, 0.5.17). SGLang reorders a beam's hidden states, not these slots.
    """

    def __init__(self, model_runner: Any, topk: int, num_steps: int) -> None:
        self.topk, self.num_steps = topk, num_steps
        self.attn_backends = [TreeAttentionBackend(model_runner) for _ in range(num_steps - 1)]

    def init_forward_metadata(self, forward_batch: Any) -> None:
        """Plan all steps: at step i a branch reads the sequence and its own first i + 1 slots."""
        lengths = forward_batch.seq_lens.tolist()
        pool = self.attn_backends[0].req_to_token
        pool_rows = forward_batch.req_pool_indices.tolist()
        for step, backend in enumerate(self.attn_backends):
            rows = []
            for pool_row, length in zip(pool_rows, lengths, strict=True):
                for branch in range(self.topk):
                    first = length + branch * self.num_steps
                    rows.append(torch.cat((pool[pool_row, :length], pool[pool_row, first : first + step + 1])))
            run = decode_run(rows, backend.dtype)
            if backend.has_windows:
                backend.windowed.clear()
                run = placed(run, torch.tensor([[row.numel() - 1] for row in rows]))
            backend.runs = [run]


def install() -> None:
    """Replace what SGLang calls `torch_native`, and give its draft factory the backends it lacks for that name."""
    from sglang.srt.layers.attention import attention_registry
    from sglang.srt.speculative.draft_utils import DraftBackendFactory

    attention_registry.ATTENTION_BACKENDS["torch_native"] = TreeAttentionBackend

    def create_decode_backend(factory: Any) -> MultiStepDraftBackend | None:
        if factory.speculative_num_steps <= 1:
            return None
        return MultiStepDraftBackend(factory.draft_model_runner, factory.topk, factory.speculative_num_steps)

    def create_draft_extend_backend(factory: Any) -> TreeAttentionBackend:
        return TreeAttentionBackend(factory.draft_model_runner)

    DraftBackendFactory.create_decode_backend = create_decode_backend
    DraftBackendFactory.create_draft_extend_backend = create_draft_extend_backend
