"""The attention's plans against naive attention, query by query."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

HEADS, SIZE, SLOTS = 2, 8, 64


@pytest.fixture(scope="module")
def attention():
    """The module as an engine process sees it; imported in a process of its own path, so nothing else is shadowed."""
    import os
    import sys

    from draftbench.harness.runtime.cpu.environment import SHIM_FOLDER

    if torch.cuda.is_available():
        pytest.skip("the CPU runtime is not used beside a GPU")
    os.environ["SGLANG_USE_CPU_ENGINE"] = "1"
    sys.path.insert(0, str(SHIM_FOLDER))
    from draftbench.drafts.training import hf  # noqa: F401  (prepares torchvision)
    from draftbench.harness.runtime.cpu import attention

    return attention


def backend(attention, keys, values, pool):
    runner = SimpleNamespace(
        device="cpu",
        dtype=torch.float32,
        req_to_token_pool=SimpleNamespace(req_to_token=pool),
        token_to_kv_pool=SimpleNamespace(get_key_buffer=lambda _: keys, get_value_buffer=lambda _: values),
    )
    return attention.TreeAttentionBackend(runner)


def naive(query, keys, values, slots):
    """One query [H, D] over the keys in the given slots."""
    scores = torch.einsum("hd,shd->hs", query, keys[slots]) / SIZE**0.5
    return torch.einsum("hs,shd->hd", scores.softmax(-1), values[slots]).flatten()


def batch(mode, pool_rows, lengths, **more):
    kinds = {f"is_{kind}": (lambda kind=kind: kind == mode) for kind in ("idle", "decode", "target_verify")}
    return SimpleNamespace(
        forward_mode=SimpleNamespace(**kinds),
        req_pool_indices=torch.tensor(pool_rows),
        seq_lens=torch.tensor(lengths),
        out_cache_loc=None,
        **more,
    )


@pytest.fixture
def cache():
    torch.manual_seed(0)
    keys, values = torch.randn(2, SLOTS, HEADS, SIZE)
    pool = torch.stack([torch.randperm(SLOTS)[:20] for _ in range(3)]).int()
    pool[2] = torch.arange(5, 25)
    return keys, values, pool


LAYER = SimpleNamespace(
    layer_id=0, tp_q_head_num=HEADS, tp_k_head_num=HEADS, qk_head_dim=SIZE, scaling=SIZE**-0.5,
    sliding_window_size=-1, logit_cap=0.0, attn_type="decoder",
)  # fmt: skip


@pytest.mark.parametrize("pool_rows", [[0], [2], [0, 1], [1, 2, 0]])
def test_decoding_reads_each_request_alone(attention, cache, pool_rows):
    """Scattered and consecutive slots, unequal lengths."""
    keys, values, pool = cache
    lengths = [7 + 3 * n for n in range(len(pool_rows))]
    plan, info = backend(attention, keys, values, pool), batch("decode", pool_rows, lengths)
    plan.init_forward_metadata(info)
    q = torch.randn(len(pool_rows), HEADS * SIZE)
    out = plan.forward_decode(q, None, None, LAYER, info)
    for row, (pool_row, length) in enumerate(zip(pool_rows, lengths, strict=True)):
        expected = naive(q[row].view(HEADS, SIZE), keys, values, pool[pool_row, :length].long())
        torch.testing.assert_close(out[row], expected)


@pytest.mark.parametrize("counts", [[4], [4, 4], [3, 6], [1, 5]])
def test_extending_is_causal_behind_the_prefix(attention, cache, counts):
    """Prefill pieces of equal and unequal length, prefixes included."""
    keys, values, pool = cache
    rows, lengths = [0, 2][: len(counts)], [9, 14][: len(counts)]
    plan = backend(attention, keys, values, pool)
    info = batch("extend", rows, lengths, extend_seq_lens=torch.tensor(counts))
    plan.init_forward_metadata(info)
    q = torch.randn(sum(counts), HEADS * SIZE)
    out = plan.forward_extend(q, None, None, LAYER, info)
    at = 0
    for row, length, count in zip(rows, lengths, counts, strict=True):
        for place in range(length - count, length):
            expected = naive(q[at].view(HEADS, SIZE), keys, values, pool[row, : place + 1].long())
            torch.testing.assert_close(out[at], expected)
            at += 1


def test_verifying_sees_the_prefix_and_ancestors(attention, cache):
    """A tree of a root, two children and a grandchild, in two requests of unequal length."""
    keys, values, pool = cache
    tree = torch.tensor([[1, 0, 0, 0], [1, 1, 0, 0], [1, 0, 1, 0], [1, 0, 1, 1]], dtype=torch.bool)
    spec = SimpleNamespace(draft_token_num=4, tree_topk=2, custom_mask=tree.repeat(2, 1, 1).flatten())
    plan, info = backend(attention, keys, values, pool), batch("target_verify", [0, 1], [6, 11], spec_info=spec)
    plan.init_forward_metadata(info)
    q = torch.randn(8, HEADS * SIZE)
    out = plan.forward_extend(q, None, None, LAYER, info)
    for row, prefix in enumerate((6, 11)):
        for node in range(4):
            seen = [*range(prefix), *(prefix + n for n in tree[node].nonzero().flatten().tolist())]
            expected = naive(q[4 * row + node].view(HEADS, SIZE), keys, values, pool[row, seen].long())
            torch.testing.assert_close(out[4 * row + node], expected)


def test_draft_steps_read_their_own_branch(attention, cache):
    """At step i, branch t reads the sequence and its first i + 1 slots behind it."""
    keys, values, pool = cache
    topk, steps, length = 2, 3, 9
    runner = SimpleNamespace(
        device="cpu",
        dtype=torch.float32,
        req_to_token_pool=SimpleNamespace(req_to_token=pool),
        token_to_kv_pool=SimpleNamespace(get_key_buffer=lambda _: keys, get_value_buffer=lambda _: values),
    )
    several, info = attention.MultiStepDraftBackend(runner, topk, steps), batch("decode", [1], [length])
    several.init_forward_metadata(info)
    assert len(several.attn_backends) == steps - 1
    for step, plan in enumerate(several.attn_backends):
        q = torch.randn(topk, HEADS * SIZE)
        out = plan.forward_decode(q, None, None, LAYER, info)
        for branch in range(topk):
            seen = [*range(length), *range(length + branch * steps, length + branch * steps + step + 1)]
            expected = naive(q[branch].view(HEADS, SIZE), keys, values, pool[1, seen].long())
            torch.testing.assert_close(out[branch], expected)
