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
from draftbench.drafts.layout import AUX_LAYERS, draft_fields
from draftbench.drafts.training.layer import Attend, Layer, LayerShape, reset


class EagleDraft(nn.Module):
    """An EAGLE head; embedding and output head are the target's and stay frozen."""

    def __init__(
        self, shape: LayerShape, num_layers: int, embedding_VD: Tensor, head_VD: Tensor, num_read: int = 0
    ) -> None:
        """`num_read` is how many of the target's layers the first step reads; 0 for its last hidden state."""
        super().__init__()
        self.embed_tokens = nn.Embedding.from_pretrained(embedding_VD.float(), freeze=True)
        self.fc = nn.Linear(2 * shape.hidden_size, shape.hidden_size)
        self.layers = nn.ModuleList([Layer(shape, input_norm=index > 0) for index in range(num_layers)])
        self.reads_layers = num_read > 0
        if self.reads_layers:
            self.fusion_layer = nn.Linear(num_read * shape.hidden_size, shape.hidden_size)
        self.head_VD: Tensor
        self.register_buffer("head_VD", head_VD.float(), persistent=False)

    def forward(self, tokens_BT: Tensor, hidden: Tensor, positions_BT: Tensor, attend: Attend, step: int = 1) -> Tensor:
        """Estimate the next hidden state [B, T, D] at every entry; the same layers serve every step.

        Args:
            hidden: of the layers side by side [B, T, L * D] at step 1, where it reads them; else [B, T, D].
        """
        hidden_BTD = self.fusion_layer(hidden) if self.reads_layers and step == 1 else hidden
        x_BTD = self.fc(torch.cat((self.embed_tokens(tokens_BT), hidden_BTD), dim=-1))
        for index, layer in enumerate(self.layers):
            x_BTD = layer(index, x_BTD, positions_BT, attend)
        return x_BTD

    def logits(self, hidden: Tensor) -> Tensor:
        """The target's head on estimated hidden states [..., D]."""
        return nn.functional.linear(hidden, self.head_VD)


def new_eagle(
    config: Mapping[str, Any], embedding_VD: Tensor, head_VD: Tensor, seed: int, num_layers: int = 1, num_read: int = 0
) -> EagleDraft:
    """An untrained head for the target that `config` (its config.json) describes."""
    draft = EagleDraft(LayerShape.of(config), num_layers, embedding_VD, head_VD, num_read)
    reset(draft, seed)
    return draft


def eagle_config(config: Mapping[str, Any], num_layers: int = 1, layers: Sequence[int] = ()) -> dict[str, Any]:
    """The draft's config.json; `layers` are those of the target, from 0, that the first step reads, if any.

    Embeddings count as untied even where the target ties them: SGLang deletes the draft's embedding and head one after
    the other before it puts the target's in place, which fails when both are one.
    """
    read = {"eagle_config": {AUX_LAYERS: list(layers)}} if layers else {}
    return {
        **draft_fields(config),
        **read,
        "architectures": [FUSED if layers else ARCHITECTURE],
        "num_hidden_layers": num_layers,
        "tie_word_embeddings": False,
    }
