"""EAGLE-3's objective: training-time test, cross-entropy on the draft's vocabulary, no loss on hidden states.

The passes are those of `draftbench.drafts.eagle.loss`; the first reads three layers of the target, and gradients flow
through all.
Source: EAGLE-3 (arXiv 2503.01840, section 3; weights 0.8^j: SafeAILab/EAGLE eagle/traineagle3/main.py).

Shapes: V target vocabulary, N learned entries, K the target's likeliest tokens.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from draftbench.drafts.eagle.loss import aligned_passes
from draftbench.drafts.eagle3.model import Eagle3Draft
from draftbench.drafts.training.features import Batch


@dataclass(frozen=True)
class Eagle3Objective:
    """Number of passes, and the weight of a pass relative to the one before."""

    num_passes: int
    pass_decay: float


def eagle3_loss(draft: Eagle3Draft, batch: Batch, objective: Eagle3Objective) -> Tensor:
    """The weighted mean over passes; the target's mass outside the draft's vocabulary is left out."""
    total, weight_sum = batch.hidden_BTD.new_zeros(()), 0.0
    passes = aligned_passes(draft, batch, batch.aux_BTE, objective.num_passes, detach=False)
    for step, (output_BTD, learned_BT) in enumerate(passes):
        logits_NW = draft.draft_logits(output_BTD[learned_BT]).float()
        ids_NK, probs_NK = batch.top_ids_BTK[learned_BT], batch.top_probs_BTK[learned_BT]
        known_NK = draft.t2d[ids_NK]
        place_NK = torch.searchsorted(draft.draft_tokens_W, ids_NK).clamp_max(logits_NW.shape[1] - 1)
        log_probs_NK = logits_NW.gather(1, place_NK) - torch.logsumexp(logits_NW, 1, keepdim=True)
        weight = objective.pass_decay**step
        total = total - weight * (probs_NK * known_NK * log_probs_NK).sum(1).mean()
        weight_sum += weight
    return total / weight_sum
