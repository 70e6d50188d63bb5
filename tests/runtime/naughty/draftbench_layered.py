"""A stepwise draft that reads several layers of the target and has two attentions of its own.

Shapes: B batch, T entries, D hidden size, E the layers' outputs side by side, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from draftbench.drafts.api import Shape
from draftbench.drafts.eagle.loss import EagleObjective, eagle_loss
from draftbench.drafts.layout import llama_layer
from draftbench.drafts.stepwise import stepwise_spec
from draftbench.drafts.training.draft import FeatureDraft
from draftbench.drafts.training.layer import Attend, Layer, LayerShape, reset
from draftbench.drafts.training.recipe import Phase, Recipe, Start

READ_LAYERS = (1, 11, 20)


class LayeredDraft(FeatureDraft):
    """x = W e(token) + hidden, which is a mix of the layers at step 1; then two layers."""

    reads_layers = True

    def __init__(self, config: Mapping[str, Any]) -> None:
        size = config["hidden_size"]
        super().__init__(config["vocab_size"], size)
        self.token = nn.Linear(size, size, bias=False)
        self.mix = nn.Linear(len(config["target_layers"]) * size, size, bias=False)
        self.layers = nn.ModuleList(Layer(LayerShape.of(config), input_norm=True) for _ in range(2))

    def forward(self, tokens_BT: Tensor, hidden: Tensor, positions_BT: Tensor, attend: Attend, step: int = 1) -> Tensor:
        """Estimate the next hidden state [B, T, D]; `hidden` is [B, T, E] at step 1 and [B, T, D] later."""
        x_BTD = self.token(self.embed_tokens(tokens_BT)) + (self.mix(hidden) if step == 1 else hidden)
        for index, layer in enumerate(self.layers):
            x_BTD = layer(index, x_BTD, positions_BT, attend)
        return x_BTD


def new_layered(start: Start) -> LayeredDraft:
    """Untrained, with the target's embedding and head."""
    draft = LayeredDraft(layered_config(start.config))
    reset(draft, start.seed)
    draft.adopt(start.embedding_VD, start.head_VD)
    return draft


def layered_config(config: dict[str, Any]) -> dict[str, Any]:
    """Its config.json."""
    return {**config, "num_hidden_layers": 2, "target_layers": list(READ_LAYERS)}


def expected(config: Mapping[str, Any]) -> dict[str, Shape]:
    """Tensors of a checkpoint."""
    size = config["hidden_size"]
    own: dict[str, Shape] = {"token.weight": (size, size), "mix.weight": (size, len(config["target_layers"]) * size)}
    return own | llama_layer("layers.0", config, input_norm=True) | llama_layer("layers.1", config, input_norm=True)


RECIPE = Recipe(
    "layered",
    "Two LLaMA layers on three of the target's.",
    new_layered,
    layered_config,
    (Phase(1.0, EagleObjective(4, 1.0, 1.0, 0.0, 10, 1.0, False), eagle_loss),),
    layers=lambda num_layers: READ_LAYERS,
)
SPEC = stepwise_spec(
    name="layered",
    title="two LLaMA layers on three of the target's",
    origin="tests",
    factory="draftbench_layered:LayeredDraft",
    expected=expected,
    num_attentions=2,
    reads_layers=True,
)
