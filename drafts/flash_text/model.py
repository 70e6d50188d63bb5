"""FLASH's semi-autoregressive head in plain torch: k tokens a pass, then a pass that reads them.

Input at entry i: the embedding of token i+1 beside the hidden state at i, fused by a matrix, as EAGLE's. One attention
over all entries and a two-layer head make k estimates at once, of the hidden states at i+1 to i+k; the target's head
turns them into tokens i+2 to i+1+k. These tokens do not see each other. The next pass reads them all, each beside its
own estimate, and drafts the next k.

A draft step is one token, so the k estimates are the draft's state until they are used up. With a single attention a
token's key and value depend on its own entry alone, so that they are kept as soon as it is drafted: it is the same as
reading the k tokens at once, and only every k-th step attends.
Source: FLASH (arXiv 2505.12728); ZihuaEvan/FlashSD at 598e999, flash/model/llama_sar.py: no norms, no residuals.

Shapes: B batch, T entries, D hidden size, k tokens of a pass.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from draftbench.drafts.flash_text.spec import TOKENS_PER_PASS, WIDER
from draftbench.drafts.layout import draft_fields
from draftbench.drafts.training.draft import WideDraft
from draftbench.drafts.training.layer import Attend, Attention, LayerShape, reset


class FlashTextDraft(WideDraft):
    """Fusion, attention, head; embedding and output head are the target's and stay frozen."""

    def __init__(self, shape: LayerShape, tokens_per_pass: int) -> None:
        super().__init__(shape.vocab_size, shape.hidden_size)
        size = shape.hidden_size
        self.tokens_per_pass = tokens_per_pass
        self.fc = nn.Linear(2 * size, size)
        self.self_attn = Attention(shape)
        self.head = nn.Sequential(
            nn.Linear(size, WIDER * size), nn.SiLU(), nn.Linear(WIDER * size, tokens_per_pass * size)
        )

    def forward(self, tokens_BT: Tensor, hidden: Tensor, positions_BT: Tensor, attend: Attend, step: int = 1) -> Tensor:
        """The k estimates [B, T, k * D] of the pass that draft step `step` belongs to."""
        before = hidden if step == 1 else self.scored(hidden, step - 1)
        fused_BTD = self.fc(torch.cat((self.embed_tokens(tokens_BT), before), dim=-1))
        if (step - 1) % self.tokens_per_pass:
            self.self_attn.keep(0, fused_BTD, positions_BT, attend)
            return hidden
        out: Tensor = self.head(self.self_attn(0, fused_BTD, positions_BT, attend))
        return out

    def scored(self, state: Tensor, step: int) -> Tensor:
        """The estimate of this step [..., D]."""
        return state.unflatten(-1, (self.tokens_per_pass, -1))[..., (step - 1) % self.tokens_per_pass, :]


def made(config: Mapping[str, Any]) -> FlashTextDraft:
    """The draft that a checkpoint's configuration describes."""
    return FlashTextDraft(LayerShape.of(config), config[TOKENS_PER_PASS])


def new_flash_text(
    config: Mapping[str, Any], embedding_VD: Tensor, head_VD: Tensor, seed: int, tokens_per_pass: int
) -> FlashTextDraft:
    """An untrained draft for the target that `config` (its config.json) describes."""
    draft = FlashTextDraft(LayerShape.of(config), tokens_per_pass)
    draft.adopt(embedding_VD, head_VD)
    reset(draft, seed)
    return draft


def flash_text_config(config: Mapping[str, Any], tokens_per_pass: int) -> dict[str, Any]:
    """The draft's config.json."""
    return {**draft_fields(config), "num_hidden_layers": 1, TOKENS_PER_PASS: tokens_per_pass}
