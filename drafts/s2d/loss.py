"""S2D's objective: every exit learns at once, each as a standalone draft would (sorted fine-tuning).

Source: S2D (arXiv 2407.01955); sorted fine-tuning: arXiv 2309.08968.
"""

from __future__ import annotations

from torch import Tensor

from draftbench.drafts.s2d.model import NestedDraft
from draftbench.drafts.standalone.loss import StandaloneObjective, distillation
from draftbench.drafts.training.features import Batch


def nested_loss(draft: NestedDraft, batch: Batch, objective: StandaloneObjective) -> Tensor:
    """The mean of the exits' losses."""
    states = draft.states_of_exits(batch.tokens_BT, batch.positions_BT, batch.causal)
    losses = [distillation(draft.logits(state_BTD[batch.learned_BT]), batch, objective) for state_BTD in states]
    return sum(losses[1:], losses[0]) / len(losses)
