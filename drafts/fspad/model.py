"""The FSPAD draft in plain torch: EAGLE's fusion and layer, with a sampled input and two output states.

Feature sampling: after the fusion of token and hidden state, a gated block is added whose gate is the token's
embedding: x + down(silu(gate e) * up(norm x)). Partial alignment: the layer's last matrix is twice as wide, and its
halves, each added to the same residual, are the state that the target's head scores and the one that the next step
reads, so that only the latter has to resemble the target's.
Source: FSPAD (arXiv 2408.15562); where the paper leaves the form open, its code, Luc4Gui/FSPAD
eagle/model/cnets_fspad.py.

Shapes: B batch, T entries, D hidden size.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from draftbench.drafts.fspad.spec import ARCHITECTURE
from draftbench.drafts.layout import draft_fields
from draftbench.drafts.training.draft import FeatureDraft
from draftbench.drafts.training.layer import Attend, Layer, LayerShape, Norm, reset


class FeatureSampling(nn.Module):
    """The gated block that lets the token choose from the state."""

    def __init__(self, shape: LayerShape) -> None:
        super().__init__()
        self.norm = Norm(shape.hidden_size, shape.rms_norm_eps)
        self.gate = nn.Linear(shape.hidden_size, shape.intermediate_size, bias=False)
        self.up = nn.Linear(shape.hidden_size, shape.intermediate_size, bias=False)
        self.down = nn.Linear(shape.intermediate_size, shape.hidden_size, bias=False)

    def forward(self, embedded_BTD: Tensor, x_BTD: Tensor) -> Tensor:
        """What is added to the state."""
        out: Tensor = self.down(nn.functional.silu(self.gate(embedded_BTD)) * self.up(self.norm(x_BTD)))
        return out


class TwoStates(Layer):
    """A LLaMA layer without input norm whose last matrix makes two states."""

    def __init__(self, shape: LayerShape) -> None:
        super().__init__(shape, input_norm=False)
        self.mlp.down_proj = nn.Linear(shape.intermediate_size, 2 * shape.hidden_size, bias=False)

    def forward(
        self, index: int, x_BTD: Tensor, positions_BT: Tensor, attend: Attend, context_BTD: Tensor | None = None
    ) -> Tensor:
        """Both states side by side [B, T, 2D]."""
        x_BTD = x_BTD + self.self_attn(index, x_BTD, positions_BT, attend, context_BTD)
        out: Tensor = torch.cat((x_BTD, x_BTD), dim=-1) + self.mlp(self.post_attention_layernorm(x_BTD))
        return out


class FspadDraft(FeatureDraft):
    """Fusion, sampling and one layer; embedding and output head are the target's and stay frozen."""

    def __init__(self, shape: LayerShape) -> None:
        super().__init__(shape.vocab_size, shape.hidden_size)
        self.size = shape.hidden_size
        self.fc = nn.Linear(2 * shape.hidden_size, shape.hidden_size)
        self.sampling = FeatureSampling(shape)
        self.layers = nn.ModuleList([TwoStates(shape)])

    def forward(self, tokens_BT: Tensor, hidden: Tensor, positions_BT: Tensor, attend: Attend, step: int = 1) -> Tensor:
        """Two states [B, T, 2D]: to score, and to go on with. Of such a pair it reads the latter."""
        embedded_BTD = self.embed_tokens(tokens_BT)
        x_BTD = self.fc(torch.cat((embedded_BTD, hidden[..., -self.size :]), dim=-1))
        x_BTD = x_BTD + self.sampling(embedded_BTD, x_BTD)
        out: Tensor = self.layers[0](0, x_BTD, positions_BT, attend)
        return out

    def logits(self, hidden: Tensor, step: int = 1, /) -> Tensor:
        """The target's head on the first of the two states."""
        return nn.functional.linear(hidden[..., : self.size], self.head_VD)


def made(config: Mapping[str, Any]) -> FspadDraft:
    """The draft that a checkpoint's configuration describes."""
    return FspadDraft(LayerShape.of(config))


def new_fspad(config: Mapping[str, Any], embedding_VD: Tensor, head_VD: Tensor, seed: int) -> FspadDraft:
    """An untrained draft for the target that `config` (its config.json) describes."""
    draft = FspadDraft(LayerShape.of(config))
    draft.adopt(embedding_VD, head_VD)
    reset(draft, seed)
    return draft


def fspad_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """The draft's config.json."""
    return {
        **draft_fields(config),
        "architectures": [ARCHITECTURE],
        "num_hidden_layers": 1,
        "tie_word_embeddings": False,
    }
