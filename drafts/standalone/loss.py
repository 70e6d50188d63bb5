"""The standalone draft's objective: cross-entropy on the target's own outputs, softened by the target's probabilities.

Source: knowledge distillation for drafts, DistillSpec (arXiv 2310.08461, section 3), forward KL.

Shapes: B batch, T entries, D hidden size, V vocabulary, N learned entries, K the target's likeliest tokens.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from draftbench.drafts.standalone.model import StandaloneDraft
from draftbench.drafts.training.features import Batch


@dataclass(frozen=True)
class StandaloneObjective:
    """Weights of the cross-entropy to the target's probabilities and of that to the output token itself."""

    soft_weight: float
    hard_weight: float


def standalone_loss(draft: StandaloneDraft, batch: Batch, objective: StandaloneObjective) -> Tensor:
    """The weighted sum of both cross-entropies over the answers' entries."""
    output_ND = draft(batch.tokens_BT, batch.hidden_BTD, batch.positions_BT, batch.causal)[batch.learned_BT]
    logits_NV = draft.logits(output_ND).float()
    normalizer_N1 = logits_NV.logsumexp(1, keepdim=True)
    log_probs_NK = logits_NV.gather(1, batch.top_ids_BTK[batch.learned_BT]) - normalizer_N1
    soft = -(batch.top_probs_BTK[batch.learned_BT] * log_probs_NK).sum(1).mean()
    hard = (normalizer_N1 - logits_NV.gather(1, batch.next_tokens_BT[batch.learned_BT][:, None])).mean()
    return objective.soft_weight * soft + objective.hard_weight * hard
