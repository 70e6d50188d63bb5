"""The module that is trained and that drafts in the engine. Shapes: B batch, T entries, D hidden size, V vocabulary."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from draftbench.drafts.eagle.loss import EagleObjective, eagle_loss
from draftbench.drafts.training.layer import Attend, Layer, LayerShape, reset
from draftbench.drafts.training.recipe import Phase, Recipe, Start


class GatedDraft(nn.Module):
    """x = W e(token) + sigmoid(G e(token)) * hidden, then a layer."""

    reads_layers = False

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        size = config["hidden_size"]
        self.embed_tokens = nn.Embedding(config["vocab_size"], size).requires_grad_(False)
        self.token = nn.Linear(size, size, bias=False)
        self.gate = nn.Linear(size, size)
        self.layer = Layer(LayerShape.of(config), input_norm=False)
        self.head_VD: Tensor
        self.register_buffer("head_VD", torch.zeros(config["vocab_size"], size), persistent=False)

    def forward(
        self, tokens_BT: Tensor, hidden_BTD: Tensor, positions_BT: Tensor, attend: Attend, step: int = 1
    ) -> Tensor:
        """Estimate the next hidden state [B, T, D] at every entry."""
        embedded_BTD = self.embed_tokens(tokens_BT)
        mixed_BTD = self.token(embedded_BTD) + torch.sigmoid(self.gate(embedded_BTD)) * hidden_BTD
        out: Tensor = self.layer(0, mixed_BTD, positions_BT, attend)
        return out

    def logits(self, hidden: Tensor) -> Tensor:
        """The target's head; the engine has its own."""
        return nn.functional.linear(hidden, self.head_VD)


def new_gated(start: Start) -> GatedDraft:
    """Untrained, with the target's embedding and head."""
    draft = GatedDraft(start.config)
    reset(draft, start.seed)
    draft.embed_tokens.weight.data.copy_(start.embedding_VD)
    draft.head_VD.copy_(start.head_VD)
    return draft


RECIPE = Recipe(
    "gated",
    "The hidden state, gated by the token, through one layer; trained as `hass`.",
    new_gated,
    lambda config: {**config, "num_hidden_layers": 1},
    (Phase(1.0, EagleObjective(5, 1.0, 1.0, 1.0, 10, 1.0, False), eagle_loss),),
)
