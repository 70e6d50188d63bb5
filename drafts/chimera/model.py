"""Chimera in plain torch: a tri-gram encoder, one layer over the whole context, and a residual head for every step.

At entry i the last three tokens up to i+1 become one vector: a residual block on their embeddings side by side, and a
matrix. It asks, as the query of a LLaMA layer, the target's hidden states up to i, which are the keys and values, and
becomes an estimate of the hidden state at i+1. From draft step 2 on estimates stand in for the hidden states of drafted
tokens. The head of a step reads the estimate beside the target's last hidden state; the target's output head follows.
Source: Chimera (arXiv 2402.15758, section 3); kafkayu/Chimera, chimera/chimera/model/Chimera_model.py.

A draft's own state holds what later steps need: the estimate, the target's last hidden state, and the embeddings of the
last two tokens, side by side.

Shapes: B batch, T entries, D hidden size, W = 4 D.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from draftbench.drafts.chimera.spec import NUM_HEADS, TOKENS
from draftbench.drafts.layout import draft_fields
from draftbench.drafts.training.draft import WideDraft
from draftbench.drafts.training.layer import Attend, Layer, LayerShape, reset


class TrigramEncoder(nn.Module):
    """x + SiLU(Wx + b) on three embeddings side by side, then a matrix; W starts at zero."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.block = nn.Linear(TOKENS * size, TOKENS * size)
        self.out = nn.Linear(TOKENS * size, size, bias=False)

    def forward(self, embedded_BT3D: Tensor) -> Tensor:
        """One vector [B, T, D] of each three tokens, the oldest first."""
        side_by_side = embedded_BT3D.flatten(-2)
        out: Tensor = self.out(side_by_side + nn.functional.silu(self.block(side_by_side)))
        return out


class ChimeraDraft(WideDraft):
    """Encoder, layer and heads; embedding and output head are the target's and stay frozen."""

    reads_tokens = TOKENS

    def __init__(self, shape: LayerShape, num_heads: int) -> None:
        super().__init__(shape.vocab_size, shape.hidden_size)
        size = shape.hidden_size
        self.encoder = TrigramEncoder(size)
        self.layer = Layer(shape, input_norm=True)
        self.heads = nn.ModuleList([nn.Linear(2 * size, size, bias=False) for _ in range(num_heads)])

    @property
    def most_steps(self) -> int:
        """Every step has a head of its own."""
        return len(self.heads)

    def forward(self, tokens: Tensor, hidden: Tensor, positions_BT: Tensor, attend: Attend, step: int = 1) -> Tensor:
        """The state [B, T, W] after a step; tokens are [B, T, 3] at step 1, else [B, T]."""
        if step == 1:
            context, last, embedded = hidden, hidden, self.embed_tokens(tokens)
        else:
            context, last, *before = hidden.unflatten(-1, (4, -1)).unbind(-2)
            embedded = torch.stack((*before, self.embed_tokens(tokens)), dim=-2)
        estimate = self.layer(0, self.encoder(embedded), positions_BT, attend, context)
        return torch.cat((estimate, last, embedded[..., 1, :], embedded[..., 2, :]), dim=-1)

    def scored(self, state: Tensor, step: int) -> Tensor:
        """x + SiLU(W [x, last hidden state]) of this step's head, x the estimate [..., D]."""
        estimate, last, *_ = state.unflatten(-1, (4, -1)).unbind(-2)
        out: Tensor = estimate + nn.functional.silu(self.heads[step - 1](torch.cat((estimate, last), dim=-1)))
        return out


def made(config: Mapping[str, Any]) -> ChimeraDraft:
    """The draft that a checkpoint's configuration describes."""
    return ChimeraDraft(LayerShape.of(config), config[NUM_HEADS])


def new_chimera(
    config: Mapping[str, Any], embedding_VD: Tensor, head_VD: Tensor, seed: int, num_heads: int
) -> ChimeraDraft:
    """An untrained draft; its residual blocks start as if they were not there."""
    draft = ChimeraDraft(LayerShape.of(config), num_heads)
    draft.adopt(embedding_VD, head_VD)
    reset(draft, seed)
    for block in (draft.encoder.block, *draft.heads):
        nn.init.zeros_(block.weight)
    return draft


def chimera_config(config: Mapping[str, Any], num_heads: int) -> dict[str, Any]:
    """The draft's config.json."""
    return {**draft_fields(config), "num_hidden_layers": 1, NUM_HEADS: num_heads}
