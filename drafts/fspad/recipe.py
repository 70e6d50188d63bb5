"""How FSPAD is trained: EAGLE's terms, each on a state of its own, over aligned passes."""

from __future__ import annotations

from draftbench.drafts.eagle.recipe import ALIGNED
from draftbench.drafts.fspad.loss import fspad_loss
from draftbench.drafts.fspad.model import fspad_config, new_fspad
from draftbench.drafts.training.recipe import Phase, Recipe

FSPAD = Recipe(
    "fspad",
    "An FSPAD draft: the token samples the state, and the layer gives one state to score and one to go on with. "
    "Trained with the terms of `hass` over 5 aligned passes, the loss on hidden states on the state that goes on. "
    "Differs from FSPAD: it has one pass and EAGLE's weights, cross-entropy 0.1 (objective: {num_passes: 1, "
    "logit_weight: 0.1, topk_weight: 0.0}), and adds noise to the features.",
    lambda start: new_fspad(start.config, start.embedding_VD, start.head_VD, start.seed),
    fspad_config,
    (Phase(1.0, ALIGNED, fspad_loss),),
)
