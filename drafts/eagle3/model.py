"""The EAGLE-3 draft in plain torch: three layers' outputs of the target fused, one layer with a doubled query input.

Input at entry i: the embedding of token i+1, and at the first step fc of three layers' outputs at i (low, middle,
high), at later steps the draft's own hidden state before its norm. A reduced vocabulary has its own head; `d2t` holds,
for each of its tokens, what is to be added to get the target's token.
Source: EAGLE-3 (arXiv 2503.01840); SafeAILab/EAGLE eagle/traineagle3; SGLang 0.5.17, srt/models/llama_eagle3.py.

Shapes: B batch, T entries, D hidden size, V target vocabulary, W draft vocabulary.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from draftbench.drafts.eagle3.spec import ARCHITECTURE
from draftbench.drafts.layout import draft_fields, layers_read, reads_layers
from draftbench.drafts.training.draft import FeatureDraft
from draftbench.drafts.training.layer import Attend, Attention, LayerShape, Mlp, Norm, VocabularyHead, reset


class Eagle3Layer(nn.Module):
    """A LLaMA layer whose queries, keys and values read the normed embedding beside the normed hidden state."""

    def __init__(self, shape: LayerShape) -> None:
        super().__init__()
        self.input_layernorm = Norm(shape.hidden_size, shape.rms_norm_eps)
        self.hidden_norm = Norm(shape.hidden_size, shape.rms_norm_eps)
        self.self_attn = Attention(shape, input_size=2 * shape.hidden_size)
        self.post_attention_layernorm = Norm(shape.hidden_size, shape.rms_norm_eps)
        self.mlp = Mlp(shape)

    def forward(self, embedded_BTD: Tensor, hidden_BTD: Tensor, positions_BT: Tensor, attend: Attend) -> Tensor:
        """The layer's output at every entry."""
        both = torch.cat((self.input_layernorm(embedded_BTD), self.hidden_norm(hidden_BTD)), dim=-1)
        x_BTD = hidden_BTD + self.self_attn(0, both, positions_BT, attend)
        out: Tensor = x_BTD + self.mlp(self.post_attention_layernorm(x_BTD))
        return out


class Eagle3Draft(FeatureDraft):
    """One such layer with its own norm and head; the embedding is the target's and stays frozen."""

    reads_layers = True

    def __init__(self, shape: LayerShape, draft_tokens_W: Tensor, num_read: int) -> None:
        super().__init__(shape.vocab_size, shape.hidden_size)
        self.fc = nn.Linear(num_read * shape.hidden_size, shape.hidden_size, bias=False)
        self.midlayer = Eagle3Layer(shape)
        self.norm = Norm(shape.hidden_size, shape.rms_norm_eps)
        self.lm_head = VocabularyHead(shape.hidden_size, len(draft_tokens_W))
        self.d2t: Tensor
        self.register_buffer("d2t", draft_tokens_W - torch.arange(len(draft_tokens_W)))
        self.t2d: Tensor
        known_V = torch.zeros(shape.vocab_size, dtype=torch.bool)
        known_V[draft_tokens_W] = True
        self.register_buffer("t2d", known_V)

    @property
    def draft_tokens_W(self) -> Tensor:
        """The target's token of each draft token."""
        return self.d2t + torch.arange(len(self.d2t), device=self.d2t.device)

    def forward(self, tokens_BT: Tensor, hidden: Tensor, positions_BT: Tensor, attend: Attend, step: int = 1) -> Tensor:
        """Hidden states [B, T, D] before the norm; `hidden` is [B, T, 3D] of the target at step 1, else the draft's."""
        hidden_BTD = self.fc(hidden) if step == 1 else hidden
        out: Tensor = self.midlayer(self.embed_tokens(tokens_BT), hidden_BTD, positions_BT, attend)
        return out

    def draft_logits(self, hidden: Tensor) -> Tensor:
        """Scores [..., W] of the draft vocabulary from hidden states before the norm."""
        out: Tensor = self.lm_head(self.norm(hidden))
        return out

    def logits(self, hidden: Tensor, step: int = 1, /) -> Tensor:
        """Scores [..., V] of the target's vocabulary; tokens that the draft does not know have minus infinity."""
        scores = self.draft_logits(hidden)
        full = scores.new_full((*scores.shape[:-1], len(self.t2d)), -torch.inf)
        return full.index_copy(-1, self.draft_tokens_W, scores)


def made(config: Mapping[str, Any]) -> Eagle3Draft:
    """The draft that a checkpoint's configuration describes; which tokens it drafts is in its file."""
    num_read = len(layers_read(config))
    return Eagle3Draft(LayerShape.of(config), torch.arange(config["draft_vocab_size"]), num_read)


def new_eagle3(
    config: Mapping[str, Any],
    draft_tokens_W: Tensor,
    embedding_VD: Tensor,
    head_VD: Tensor,
    seed: int,
    num_read: int = 3,
) -> Eagle3Draft:
    """An untrained draft on so many of the target's layers; its head starts as the target's rows of its vocabulary."""
    draft = Eagle3Draft(LayerShape.of(config), draft_tokens_W, num_read)
    draft.adopt(embedding_VD, head_VD)
    reset(draft, seed)
    draft.lm_head.weight.data.copy_(head_VD[draft_tokens_W])
    return draft


def eagle3_config(config: Mapping[str, Any], draft_vocab_size: int, layers: tuple[int, ...]) -> dict[str, Any]:
    """The draft's config.json; `layers` are the target layers whose inputs it reads, as SGLang counts them."""
    return {
        **draft_fields(config),
        "architectures": [ARCHITECTURE],
        "num_hidden_layers": 1,
        "tie_word_embeddings": False,
        "draft_vocab_size": draft_vocab_size,
        **reads_layers(layers),
    }
