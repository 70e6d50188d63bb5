"""DFlash's objective: from random anchors of an answer, all masked tokens of a block at once, the first weighing most.

Source: DFlash (arXiv 2602.06036). Here the target's distribution is learned, not only the corpus's token, as every
other draft learns it, and anchors are all entries of an answer up to a number.

Shapes: T entries of a row, R anchors, S places of a block, V vocabulary, K the target's likeliest tokens.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from draftbench.drafts.dflash.model import DFlashDraft
from draftbench.drafts.training.features import Batch


@dataclass(frozen=True)
class DFlashObjective:
    """Anchors of a row, at most, and how fast later places weigh less: place d weighs exp(-(d - 1) / decay)."""

    num_anchors: int
    decay: float


def dflash_loss(draft: DFlashDraft, batch: Batch, objective: DFlashObjective) -> Tensor:
    """The weighted mean of the cross-entropies of all places that lie in the anchor's answer."""
    total, weight_sum = batch.hidden_BTD.new_zeros(()), batch.hidden_BTD.new_zeros(())
    outside_BTT = batch.outside_BTT()
    size = batch.tokens_BT.shape[1]
    causal_TT = torch.ones(size, size, dtype=torch.bool, device=batch.tokens_BT.device).tril()
    offsets = torch.arange(draft.most_steps, device=batch.tokens_BT.device)
    for row, learned_T in enumerate(batch.learned_BT):
        starts_R = learned_T.nonzero()[:, 0]
        if not len(starts_R):
            continue
        if len(starts_R) > objective.num_anchors:
            starts_R = starts_R[torch.randperm(len(starts_R))[: objective.num_anchors].to(starts_R.device)]
        seen_TT = causal_TT if outside_BTT is None else ~outside_BTT[row]
        states = draft.blocks(
            batch.tokens_BT[row], batch.aux_BTE[row], batch.positions_BT[row], starts_R, seen_TT[starts_R]
        )[:, 1:]
        entries_RS = starts_R[:, None] + offsets
        inside_RS = learned_T[entries_RS.clamp_max(size - 1)] & (entries_RS < size)
        inside_RS = inside_RS.long().cumprod(1).bool()
        entries_N = entries_RS[inside_RS]
        logits_NV = draft.logits(states[inside_RS]).float()
        ids_NK, probs_NK = batch.top_ids_BTK[row, entries_N], batch.top_probs_BTK[row, entries_N]
        log_probs_NK = logits_NV.gather(1, ids_NK) - logits_NV.logsumexp(1, keepdim=True)
        weights_N = (-offsets / objective.decay).exp().expand_as(inside_RS)[inside_RS]
        total = total - (weights_N * (probs_NK * log_probs_NK).sum(1)).sum()
        weight_sum = weight_sum + weights_N.sum()
    return total / weight_sum.clamp_min(1e-9)
