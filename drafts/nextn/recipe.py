"""How a target's extra layer is trained on, where it is MiMo's: with EAGLE's objective, several aligned passes."""

from __future__ import annotations

from typing import Any

from draftbench.drafts.eagle.loss import EagleObjective, eagle_loss
from draftbench.drafts.nextn.model import NextnDraft, made
from draftbench.drafts.training.layer import reset
from draftbench.drafts.training.recipe import Phase, Recipe, Start


def _config(target: dict[str, Any]) -> dict[str, Any]:
    return {**target, "architectures": ["MiMoForCausalLM"], "num_nextn_predict_layers": 1}


def _new(start: Start) -> NextnDraft:
    draft = made(_config(start.config))
    draft.adopt(start.embedding_VD, start.head_VD)
    reset(draft, start.seed)
    return draft


NEXTN = Recipe(
    "nextn",
    "MiMo's layer for the token after the next, trained anew for a target that is there already. Unlike MiMo's, it is "
    "not trained together with the target, and with HASS's passes.",
    _new,
    _config,
    (Phase(1.0, EagleObjective(3, 0.0, 1.0, 0.0, 10, 1.0, True), eagle_loss),),
)
