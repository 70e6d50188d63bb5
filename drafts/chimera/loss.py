"""Chimera's objective: every step's head learns the next token, every estimate the target's hidden state.

The steps are the aligned passes of `draftbench.drafts.eagle.loss`, gradients stopped between them.
Source: Chimera (arXiv 2402.15758, section 3.4: next tokens, and distillation by mean squares);
kafkayu/Chimera, chimera/chimera/model/Chimera_model.py: later steps read the steps before without their gradients.

Shapes: D hidden size, V vocabulary, N learned entries, K the target's likeliest tokens.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from draftbench.drafts.chimera.model import ChimeraDraft
from draftbench.drafts.eagle.loss import aligned_passes
from draftbench.drafts.training.features import Batch


@dataclass(frozen=True)
class ChimeraObjective:
    """Weights of the loss on hidden states and of the cross-entropy to the target's probabilities."""

    feature_weight: float
    logit_weight: float


def chimera_loss(draft: ChimeraDraft, batch: Batch, objective: ChimeraObjective) -> Tensor:
    """The mean over the steps that have a head."""
    total, size = batch.hidden_BTD.new_zeros(()), batch.hidden_BTD.shape[-1]
    passes = aligned_passes(draft, batch, batch.hidden_BTD, draft.most_steps, detach=True)
    for step, (state_BTW, learned_BT) in enumerate(passes, 1):
        state_NW = state_BTW[learned_BT]
        feature = nn.functional.mse_loss(state_NW[:, :size].float(), batch.next_hidden_BTD[learned_BT])
        logits_NV = draft.logits(state_NW, step).float()
        probs_NK, ids_NK = batch.top_probs_BTK[learned_BT], batch.top_ids_BTK[learned_BT]
        log_probs_NK = logits_NV.gather(1, ids_NK) - logits_NV.logsumexp(1, keepdim=True)
        soft = -(probs_NK * log_probs_NK).sum(1).mean()
        total = total + objective.feature_weight * feature + objective.logit_weight * soft
    return total / draft.most_steps
