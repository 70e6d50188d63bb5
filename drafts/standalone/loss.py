"""The standalone draft's objectives: the target's probabilities, by cross-entropy or by total variation.

Source: knowledge distillation for drafts, DistillSpec (arXiv 2310.08461, section 3), forward KL; total variation and
TVD++: Direct Alignment (arXiv 2403.00858, section 3.3).

Shapes: B batch, T entries, D hidden size, V vocabulary, N learned entries, K the target's likeliest tokens.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from draftbench.drafts.standalone.model import StandaloneDraft
from draftbench.drafts.training.features import Batch

SMALLEST_DEVIATION = 1e-3
"""Of TVD++'s rewards: where they are all alike there is nothing to divide by."""


@dataclass(frozen=True)
class StandaloneObjective:
    """Weights of the cross-entropy to the target's probabilities and of that to the output token itself."""

    soft_weight: float
    hard_weight: float


@dataclass(frozen=True)
class VariationObjective:
    """The distance between the draft's and the target's probabilities.

    `normalized` is TVD++: rewards less their mean, over their deviation.
    """

    normalized: bool


def standalone_loss(draft: StandaloneDraft, batch: Batch, objective: StandaloneObjective) -> Tensor:
    """The weighted sum of both cross-entropies over the answers' entries."""
    return distillation(_learned_logits(draft, batch), batch, objective)


def distillation(logits_NV: Tensor, batch: Batch, objective: StandaloneObjective) -> Tensor:
    """The same from scores at the learned entries."""
    logits_NV = logits_NV.float()
    normalizer_N1 = logits_NV.logsumexp(1, keepdim=True)
    log_probs_NK = logits_NV.gather(1, batch.top_ids_BTK[batch.learned_BT]) - normalizer_N1
    soft = -(batch.top_probs_BTK[batch.learned_BT] * log_probs_NK).sum(1).mean()
    hard = (normalizer_N1 - logits_NV.gather(1, batch.next_tokens_BT[batch.learned_BT][:, None])).mean()
    return objective.soft_weight * soft + objective.hard_weight * hard


def variation_loss(draft: StandaloneDraft, batch: Batch, objective: VariationObjective) -> Tensor:
    """Total variation, or the loss whose gradient is TVD++'s, over the answers' entries."""
    logits_NV = _learned_logits(draft, batch).float()
    ids_NK, target_NK = batch.top_ids_BTK[batch.learned_BT], batch.top_probs_BTK[batch.learned_BT]
    draft_NK = (logits_NV.gather(1, ids_NK) - logits_NV.logsumexp(1, keepdim=True)).exp()
    return variation(draft_NK, target_NK, objective.normalized)


def variation(draft_NK: Tensor, target_NK: Tensor, normalized: bool) -> Tensor:
    """The mean over entries, from both models' probabilities of the target's likeliest tokens.

    TVD is the sum of q - p where the target's q exceeds the draft's p: tokens that are left out have next to no q. Its
    gradient is that of -E_p[r], with reward r = 1 where q exceeds p, else 0. TVD++ takes (r - mean) / deviation for r,
    both over the batch. Here the expectation is summed up over the vocabulary, not drawn: a constant then has no
    gradient, and the deviation is what changes. The value stays TVD's, by which learning rates are judged.
    """
    reward_NK = (target_NK > draft_NK).to(draft_NK.dtype)
    rewarded = (draft_NK * reward_NK).sum(1).mean()
    distance = (target_NK * reward_NK).sum(1).mean() - rewarded
    if not normalized:
        return distance
    mean = rewarded.detach()
    scaled = (mean - rewarded) / (mean * (1 - mean)).sqrt().clamp_min(SMALLEST_DEVIATION)
    return distance.detach() + scaled


def _learned_logits(draft: StandaloneDraft, batch: Batch) -> Tensor:
    """Scores [N, V] at the answers' entries."""
    return draft.logits(draft(batch.tokens_BT, batch.hidden_BTD, batch.positions_BT, batch.causal)[batch.learned_BT])
