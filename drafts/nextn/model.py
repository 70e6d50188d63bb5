"""MiMo's layer for the token after the next in plain torch, under the names that its checkpoints have.

Input at entry i: the embedding of token i+1 and the hidden state at i, each normed, side by side through one matrix
into a layer of Qwen 2. Every draft step runs the same layer on its own output before.
Source: MiMo (arXiv 2505.07608, section 2.3); SGLang 0.5.17, srt/models/mimo_mtp.py.

Shapes: B batch, T entries, D hidden size.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from draftbench.drafts.training.draft import FeatureDraft
from draftbench.drafts.training.layer import Attend, Layer, LayerShape, Norm
from draftbench.harness.errors import CheckpointError


class MimoLayer(Layer):
    """The layer and what stands around it."""

    def __init__(self, shape: LayerShape) -> None:
        super().__init__(shape, input_norm=True)
        self.self_attn.o_proj.register_parameter("bias", None)
        self.token_layernorm = Norm(shape.hidden_size, shape.rms_norm_eps)
        self.hidden_layernorm = Norm(shape.hidden_size, shape.rms_norm_eps)
        self.input_proj = nn.Linear(2 * shape.hidden_size, shape.hidden_size, bias=False)
        self.final_layernorm = Norm(shape.hidden_size, shape.rms_norm_eps)

    def fused(self, embedded_BTD: Tensor, hidden_BTD: Tensor) -> Tensor:
        """What the layer reads; the hidden state comes first."""
        normed = (self.hidden_layernorm(hidden_BTD), self.token_layernorm(embedded_BTD))
        out: Tensor = self.input_proj(torch.cat(normed, dim=-1))
        return out


class NextnDraft(FeatureDraft):
    """MiMo's first extra layer, between the target's embedding and head."""

    def __init__(self, shape: LayerShape) -> None:
        super().__init__(shape.vocab_size, shape.hidden_size)
        layers = nn.ModuleList([MimoLayer(shape)])
        # Under the target's name, which SGLang looks for in such a file.
        embedding: Any = self._modules.pop("embed_tokens")
        self.model = nn.ModuleDict({"embed_tokens": embedding, "mtp_layers": layers})

    @property
    def embed_tokens(self) -> nn.Embedding:
        """The target's, frozen."""
        found: Any = self.model["embed_tokens"]
        return found

    def forward(self, tokens_BT: Tensor, hidden: Tensor, positions_BT: Tensor, attend: Attend, step: int = 1) -> Tensor:
        """Hidden states [B, T, D]; the embedding at position 0 is left out, as in SGLang."""
        layer: Any = next(self.model["mtp_layers"].children())
        embedded_BTD = self.model["embed_tokens"](tokens_BT) * (positions_BT != 0)[..., None]
        out: Tensor = layer.final_layernorm(layer(0, layer.fused(embedded_BTD, hidden), positions_BT, attend))
        return out


def made(config: Mapping[str, Any]) -> NextnDraft:
    """The draft that a checkpoint's configuration describes.

    Raises:
        CheckpointError: it is of another family than MiMo, whose layers are not written in torch here.
    """
    if config["architectures"] != ["MiMoForCausalLM"]:
        raise CheckpointError(f"nextn of {config['architectures']} runs in SGLang alone; MiMo's is here in torch too.")
    return NextnDraft(LayerShape.of(config, attention_bias=True))
