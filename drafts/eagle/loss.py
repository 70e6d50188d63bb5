"""EAGLE's objective, for one pass (EAGLE) or several aligned passes (HASS).

Pass j imitates draft step j: its hidden states are the draft's own of pass j-1, moved on by one entry, and its
attention sees what a query at step j sees: entries made from the target's features up to where the round began, and the
draft's own of passes 2 to j after that.
Source: EAGLE (arXiv 2401.15077, section 4.2); HASS (arXiv 2408.15766, sections 3.1 and 3.2).

Shapes: B batch, T entries, D hidden size, H heads, C head size, N learned entries, K the target's likeliest tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from draftbench.drafts.training.draft import Draft, first_tokens, target_states
from draftbench.drafts.training.features import Batch


@dataclass(frozen=True)
class EagleObjective:
    """Number of passes and the weight of each term; EAGLE publishes 1.0 and 0.1, HASS 1.0, 0.1 and 1.0.

    `pass_decay` is the weight of a pass relative to the one before; `detach` keeps gradients within a pass, as HASS
    does.
    """

    num_passes: int
    feature_weight: float
    logit_weight: float
    topk_weight: float
    topk: int
    pass_decay: float
    detach: bool


def eagle_loss(draft: Draft, batch: Batch, objective: EagleObjective) -> Tensor:
    """The weighted mean of the passes' losses over the entries that a draft step can meet."""
    return weighted_passes(draft, batch, objective, lambda output: output)


def weighted_passes(
    draft: Draft, batch: Batch, objective: EagleObjective, feature: Callable[[Tensor], Tensor]
) -> Tensor:
    """The same for drafts whose hidden state, which is to be like the target's, is only a part of a pass's output.

    Args:
        feature: that part [N, D] of outputs [N, …].
    """
    total, weight_sum = batch.hidden_BTD.new_zeros(()), 0.0
    first = target_states(draft, batch.hidden_BTD, batch.aux_BTE)
    passes = aligned_passes(draft, batch, first, objective.num_passes, objective.detach)
    for step, (output, learned_BT) in enumerate(passes):
        weight = objective.pass_decay**step
        learned = output[learned_BT]
        logits_NV = draft.logits(learned, step + 1).float()
        total = total + weight * _pass_loss(feature(learned), logits_NV, batch, learned_BT, objective)
        weight_sum += weight
    return total / weight_sum


def aligned_passes(
    draft: Draft, batch: Batch, hidden_BTX: Tensor, num_passes: int, detach: bool
) -> Iterator[tuple[Tensor, Tensor]]:
    """Run the passes one after the other.

    Args:
        hidden_BTX: what the first pass reads of the target; later ones read the draft's own output, moved by one.

    Yields:
        Each pass's output [B, T, D] and the entries [B, T] that it learns from: an entry can be met at step j only when
        j-1 entries of the same answer stand before it.
    """
    passes: dict[int, list[tuple[Tensor, Tensor]]] = {}

    def attend(index: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        passes.setdefault(index, []).append((k, v))
        if not q.shape[2]:
            return q
        return aligned_attention(q, passes[index], batch.outside_BTT(len(passes[index]) - 1))

    for step in range(num_passes):
        tokens = first_tokens(draft, batch.tokens_BT, batch.positions_BT) if step == 0 else batch.tokens_BT
        output_BTD = draft(tokens, hidden_BTX, batch.positions_BT, attend, step + 1)
        yield output_BTD, batch.learned_after(step)
        own_BTD = (output_BTD.detach() if detach else output_BTD).to(batch.hidden_BTD.dtype)
        hidden_BTX = torch.cat((own_BTD[:, :1], own_BTD[:, :-1]), dim=1)


def _pass_loss(
    feature_ND: Tensor, logits_NV: Tensor, batch: Batch, learned_BT: Tensor, objective: EagleObjective
) -> Tensor:
    feature = nn.functional.smooth_l1_loss(feature_ND.float(), batch.next_hidden_BTD[learned_BT])
    probs_NK, ids_NK = batch.top_probs_BTK[learned_BT], batch.top_ids_BTK[learned_BT]
    log_probs_NK = logits_NV.gather(1, ids_NK) - logits_NV.logsumexp(1, keepdim=True)
    cost_NK = -probs_NK * log_probs_NK
    soft = cost_NK.sum(1).mean()
    top = cost_NK[:, : objective.topk].sum(1).mean()
    return objective.feature_weight * feature + objective.logit_weight * soft + objective.topk_weight * top


def aligned_attention(q: Tensor, passes: list[tuple[Tensor, Tensor]], outside: Tensor | None) -> Tensor:
    """Attention of pass j = len(passes), whose own keys and values come last in `passes`.

    The query at entry t belongs to a round whose last entry made from target features is r = t-j+1. It sees pass 1's
    entries up to r, and at r+m (m = 1 to j-1) pass m+1's entry, its own among them.

    Args:
        q: queries [B, H, T, C] of pass j.
        passes: keys and values [B, H, T, C] of passes 1 to j.
        outside: True where pass 1's entries are beyond r or of another sample [B or 1, T, T]; None for plain causality.
    """
    own = len(passes) - 1
    keys, values = passes[0]
    if own == 0:
        allowed = None if outside is None else ~outside[:, None]
        return nn.functional.scaled_dot_product_attention(q, keys, values, attn_mask=allowed, is_causal=allowed is None)
    assert outside is not None
    size = q.shape[2]
    # Entries before the first round repeat the first entry: they are never learned, but have to stay finite.
    # Recent entries lie on diagonals: `back` entries before the query stands pass j-back's.
    recent = [(_moved(passes[own - back][0], back), _moved(passes[own - back][1], back)) for back in range(own)]
    prefix_scores = q @ keys.transpose(-1, -2)
    recent_scores = torch.stack([(q * k).sum(-1) for k, _ in recent], dim=-1)
    scores = torch.cat((prefix_scores.masked_fill(outside[:, None], -torch.inf), recent_scores), dim=-1)
    weights = (scores.float() * q.shape[-1] ** -0.5).softmax(-1).to(q.dtype)
    attended = weights[..., :size] @ values
    for back, (_, v) in enumerate(recent):
        attended = attended + weights[..., size + back, None] * v
    return attended


def _moved(x_BHTC: Tensor, by: int) -> Tensor:
    """Move entries `by` places later; the first ones repeat the first entry."""
    if by == 0:
        return x_BHTC
    return torch.cat((x_BHTC[:, :, :1].expand(-1, -1, min(by, x_BHTC.shape[2]), -1), x_BHTC[:, :, :-by]), dim=2)
