"""FLASH's objective: all k estimates of one pass, each with EAGLE's loss on hidden state and tokens, weighing the same.

Source: ZihuaEvan/FlashSD at 598e999, flash/train/train_sar.py: smooth L1 1.0 and soft cross-entropy 0.1.

Shapes: B batch, T entries, D hidden size, V vocabulary, N learned entries, K the target's likeliest tokens.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from draftbench.drafts.flash_text.model import FlashTextDraft
from draftbench.drafts.training.features import Batch


@dataclass(frozen=True)
class FlashTextObjective:
    """Weights of the loss on hidden states and of the cross-entropy to the target's probabilities."""

    feature_weight: float
    logit_weight: float


def flash_text_loss(draft: FlashTextDraft, batch: Batch, objective: FlashTextObjective) -> Tensor:
    """The mean over the k tokens of a pass; the j-th learns from the target's state and probabilities j - 1 later."""
    state = draft(batch.tokens_BT, batch.hidden_BTD, batch.positions_BT, batch.causal, 1)
    entries, total = batch.learned_BT.shape[1], batch.hidden_BTD.new_zeros(())
    for later in range(draft.tokens_per_pass):
        ends_BT = batch.learned_after(later)[:, later:]
        estimate_ND = draft.scored(state, later + 1)[:, : entries - later][ends_BT]
        logits_NV = nn.functional.linear(estimate_ND, draft.head_VD).float()
        feature = nn.functional.smooth_l1_loss(estimate_ND.float(), batch.next_hidden_BTD[:, later:][ends_BT])
        probs_NK, ids_NK = batch.top_probs_BTK[:, later:][ends_BT], batch.top_ids_BTK[:, later:][ends_BT]
        log_probs_NK = logits_NV.gather(1, ids_NK) - logits_NV.logsumexp(1, keepdim=True)
        soft = -(probs_NK * log_probs_NK).sum(1).mean()
        total = total + objective.feature_weight * feature + objective.logit_weight * soft
    return total / draft.tokens_per_pass
