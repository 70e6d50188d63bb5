"""The module that is trained and that drafts in the engine. Shapes: B batch, T entries, D hidden size, V vocabulary."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from draftbench.drafts.eagle.loss import EagleObjective, eagle_loss
from draftbench.drafts.training.draft import FeatureDraft
from draftbench.drafts.training.layer import Attend, Layer, LayerShape, reset
from draftbench.drafts.training.recipe import Phase, Recipe, Start


class GatedDraft(FeatureDraft):
    """x = W e(token) + sigmoid(G e(token)) * hidden, then a layer."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        size = config["hidden_size"]
        super().__init__(config["vocab_size"], size)
        self.token = nn.Linear(size, size, bias=False)
        self.gate = nn.Linear(size, size)
        self.layer = Layer(LayerShape.of(config), input_norm=False)

    def forward(
        self, tokens_BT: Tensor, hidden_BTD: Tensor, positions_BT: Tensor, attend: Attend, step: int = 1
    ) -> Tensor:
        """Estimate the next hidden state [B, T, D] at every entry."""
        embedded_BTD = self.embed_tokens(tokens_BT)
        mixed_BTD = self.token(embedded_BTD) + torch.sigmoid(self.gate(embedded_BTD)) * hidden_BTD
        out: Tensor = self.layer(0, mixed_BTD, positions_BT, attend)
        return out


def new_gated(start: Start) -> GatedDraft:
    """Untrained, with the target's embedding and head."""
    draft = GatedDraft(start.config)
    reset(draft, start.seed)
    draft.adopt(start.embedding_VD, start.head_VD)
    return draft


RECIPE = Recipe(
    "gated",
    "The hidden state, gated by the token, through one layer; trained as `hass`.",
    new_gated,
    lambda config: {**config, "num_hidden_layers": 1},
    (Phase(1.0, EagleObjective(5, 1.0, 1.0, 1.0, 10, 1.0, False), eagle_loss),),
)
