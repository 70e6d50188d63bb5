"""Medusa's objective: every head's cross-entropy to the target's probabilities, later heads weighing less.

Source: Medusa (arXiv 2401.10774, section 3.2.1: weight 0.8^k); soft targets as for the other embedded drafts.

Shapes: B batch, T entries, V vocabulary, N learned entries, K the target's likeliest tokens.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from draftbench.drafts.medusa.model import MedusaDraft
from draftbench.drafts.training.features import Batch


@dataclass(frozen=True)
class MedusaObjective:
    """Weight of a head relative to the one before."""

    head_decay: float


def medusa_loss(draft: MedusaDraft, batch: Batch, objective: MedusaObjective) -> Tensor:
    """The weighted mean over heads; head k learns from the target's probabilities k-1 entries later."""
    total, weight_sum = batch.hidden_BTD.new_zeros(()), 0.0
    entries = batch.learned_BT.shape[1]
    for number in range(1, len(draft) + 1):
        later = number - 1
        ends_BT = batch.learned_after(later)[:, later:]
        logits_NV = draft.logits(batch.hidden_BTD[:, : entries - later][ends_BT], number).float()
        probs_NK, ids_NK = batch.top_probs_BTK[:, later:][ends_BT], batch.top_ids_BTK[:, later:][ends_BT]
        log_probs_NK = logits_NV.gather(1, ids_NK) - torch.logsumexp(logits_NV, 1, keepdim=True)
        weight = objective.head_decay**later
        total = total - weight * (probs_NK * log_probs_NK).sum(1).mean()
        weight_sum += weight
    return total / weight_sum
