"""The EAGLE draft in plain torch: one fusion matrix and LLaMA layers (one, as published) between embedding and head.

Input at entry i: the embedding of token i+1 beside the hidden state at i (after the target's final norm); output: an
estimate of the hidden state at i+1, which the target's head turns into token i+2. No input norm, no final norm. As a
control for drafts that read several layers, a fusion matrix may make the first step's hidden state of their outputs.
Source: EAGLE (arXiv 2401.15077), eagle/model/cnets1.py; SGLang 0.5.17, srt/models/llama_eagle.py.

Shapes: B batch, T entries, D hidden size, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from draftbench.drafts.eagle.spec import ARCHITECTURE, FUSED
from draftbench.drafts.layout import draft_fields, layers_read, reads_layers
from draftbench.drafts.training.draft import FeatureDraft
from draftbench.drafts.training.layer import Attend, Layer, LayerShape, reset


class EagleDraft(FeatureDraft):
    """An EAGLE head; embedding and output head are the target's and stay frozen."""

    def __init__(self, shape: LayerShape, num_layers: int, num_read: int = 0) -> None:
        """`num_read` is how many of the target's layers the first step reads; 0 for its last hidden state."""
        super().__init__(shape.vocab_size, shape.hidden_size)
        self.fc = nn.Linear(2 * shape.hidden_size, shape.hidden_size)
        self.layers = nn.ModuleList([Layer(shape, input_norm=index > 0) for index in range(num_layers)])
        self.add_fusion(num_read)

    def forward(self, tokens_BT: Tensor, hidden: Tensor, positions_BT: Tensor, attend: Attend, step: int = 1) -> Tensor:
        """Estimate the next hidden state [B, T, D] at every entry; the same layers serve every step."""
        x_BTD = self.fc(torch.cat((self.embed_tokens(tokens_BT), self.fused(hidden, step)), dim=-1))
        for index, layer in enumerate(self.layers):
            x_BTD = layer(index, x_BTD, positions_BT, attend)
        return x_BTD


def made(config: Mapping[str, Any]) -> EagleDraft:
    """The head that a checkpoint's configuration describes."""
    shape = LayerShape.of(config, bool(config.get("attention_bias")))
    return EagleDraft(shape, config["num_hidden_layers"], len(layers_read(config)))


def new_eagle(
    config: Mapping[str, Any], embedding_VD: Tensor, head_VD: Tensor, seed: int, num_layers: int = 1, num_read: int = 0
) -> EagleDraft:
    """An untrained head for the target that `config` (its config.json) describes."""
    draft = EagleDraft(LayerShape.of(config), num_layers, num_read)
    draft.adopt(embedding_VD, head_VD)
    reset(draft, seed)
    return draft


def eagle_config(config: Mapping[str, Any], num_layers: int = 1, layers: Sequence[int] = ()) -> dict[str, Any]:
    """The draft's config.json; `layers` are those of the target, from 0, that the first step reads, if any.

    Embeddings count as untied even where the target ties them: SGLang deletes the draft's embedding and head one after
    the other before it puts the target's in place, which fails when both are one.
    """
    return {
        **draft_fields(config),
        **reads_layers(layers),
        "architectures": [FUSED if layers else ARCHITECTURE],
        "num_hidden_layers": num_layers,
        "tie_word_embeddings": False,
    }
