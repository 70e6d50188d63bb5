"""The EAGLE-3 draft in plain torch: three layers' outputs of the target fused, one layer with a doubled query input.

Input at entry i: the embedding of token i+1, and at the first step fc of three layers' outputs at i (low, middle,
high), at later steps the draft's own hidden state before its norm. A reduced vocabulary has its own head; `d2t` holds,
for each of its tokens, what is to be added to get the target's token.
Source: EAGLE-3 (arXiv 2503.01840); SafeAILab/EAGLE eagle/traineagle3; SGLang 0.5.17, srt/models/llama_eagle3.py.

Shapes: B batch, T entries, D hidden size, V target vocabulary, W draft vocabulary.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from draftbench.drafts.eagle3.spec import ARCHITECTURE
from draftbench.drafts.layout import draft_fields, layers_read, reads_layers
from draftbench.drafts.training.draft import FeatureDraft
from draftbench.drafts.training.layer import Attend, Attention, LayerShape, Mlp, Norm, VocabularyHead, reset


@dataclass(frozen=True)
class Eagle3Extras:
    """What published drafts have beyond the paper's, as SGLang 0.5.17 computes it (srt/models/llama_eagle3.py).

    Attributes:
        read_size: width of the target; the draft's own where None.
        num_layers: stacked layers; those after the first read the hidden state alone.
        input_norm: one norm of all layers' outputs before `fc`, `fc_norm` one of each (EAGLE-3.1).
        bias: `fc` and every output projection have one.
        norm_output: later steps read the hidden state after the final norm.
    """

    read_size: int | None = None
    num_layers: int = 1
    input_norm: bool = False
    fc_norm: bool = False
    bias: bool = False
    norm_output: bool = False


class Eagle3Layer(nn.Module):
    """A LLaMA layer whose queries, keys and values read the normed embedding beside the normed hidden state.

    Stacked ones after the first read the normed hidden state alone.
    """

    def __init__(self, shape: LayerShape, index: int = 0, bias: bool = False) -> None:
        super().__init__()
        self.index = index
        if index == 0:
            self.input_layernorm = Norm(shape.hidden_size, shape.rms_norm_eps)
        self.hidden_norm = Norm(shape.hidden_size, shape.rms_norm_eps)
        self.self_attn = Attention(shape, input_size=2 * shape.hidden_size if index == 0 else None)
        if bias:
            self.self_attn.o_proj = nn.Linear(self.self_attn.o_proj.in_features, shape.hidden_size)
        self.post_attention_layernorm = Norm(shape.hidden_size, shape.rms_norm_eps)
        self.mlp = Mlp(shape)

    def forward(self, embedded_BTD: Tensor, hidden_BTD: Tensor, positions_BT: Tensor, attend: Attend) -> Tensor:
        """The layer's output at every entry."""
        read = self.hidden_norm(hidden_BTD)
        if self.index == 0:
            read = torch.cat((self.input_layernorm(embedded_BTD), read), dim=-1)
        x_BTD = hidden_BTD + self.self_attn(self.index, read, positions_BT, attend)
        out: Tensor = x_BTD + self.mlp(self.post_attention_layernorm(x_BTD))
        return out


class Eagle3Draft(FeatureDraft):
    """Such a layer, or several, with a norm and a head of its own; the embedding is the target's and stays frozen."""

    reads_layers = True

    def __init__(
        self,
        shape: LayerShape,
        draft_tokens_W: Tensor | None,
        num_read: int,
        extras: Eagle3Extras = Eagle3Extras(),  # frozen
    ) -> None:
        """`draft_tokens_W` None: the whole vocabulary, through the target's head."""
        super().__init__(shape.vocab_size, shape.hidden_size)
        read_size, eps = extras.read_size or shape.hidden_size, shape.rms_norm_eps
        self.input_norm = Norm(num_read * read_size, eps) if extras.input_norm else None
        self.fc_norm = nn.ModuleList([Norm(read_size, eps) for _ in range(num_read)]) if extras.fc_norm else None
        self.fc = nn.Linear(num_read * read_size, shape.hidden_size, bias=extras.bias)
        self.midlayer = Eagle3Layer(shape, 0, extras.bias)
        self.layers = nn.ModuleDict(
            {str(index): Eagle3Layer(shape, index, extras.bias) for index in range(1, extras.num_layers)}
        )
        self.norm = Norm(shape.hidden_size, eps)
        self.norm_output = extras.norm_output
        tokens_W = torch.arange(shape.vocab_size) if draft_tokens_W is None else draft_tokens_W
        self.lm_head = None if draft_tokens_W is None else VocabularyHead(shape.hidden_size, len(tokens_W))
        self.d2t: Tensor
        self.register_buffer("d2t", tokens_W - torch.arange(len(tokens_W)))
        self.t2d: Tensor
        known_V = torch.zeros(shape.vocab_size, dtype=torch.bool)
        known_V[tokens_W] = True
        self.register_buffer("t2d", known_V)
        self.register_load_state_dict_pre_hook(_first_layer_renamed)

    @property
    def draft_tokens_W(self) -> Tensor:
        """The target's token of each draft token."""
        return self.d2t + torch.arange(len(self.d2t), device=self.d2t.device)

    def forward(self, tokens_BT: Tensor, hidden: Tensor, positions_BT: Tensor, attend: Attend, step: int = 1) -> Tensor:
        """Hidden states [B, T, D], `hidden` being [B, T, 3D] of the target at step 1, else the draft's."""
        x_BTD = self._fused(hidden) if step == 1 else hidden
        embedded_BTD = self.embed_tokens(tokens_BT)
        for layer in (self.midlayer, *self.layers.values()):
            x_BTD = layer(embedded_BTD, x_BTD, positions_BT, attend)
        out: Tensor = self.norm(x_BTD) if self.norm_output else x_BTD
        return out

    def _fused(self, hidden_BTE: Tensor) -> Tensor:
        if self.input_norm is not None:
            hidden_BTE = self.input_norm(hidden_BTE)
        if self.fc_norm is not None:
            chunks = hidden_BTE.chunk(len(self.fc_norm), dim=-1)
            hidden_BTE = torch.cat([norm(part) for norm, part in zip(self.fc_norm, chunks, strict=True)], dim=-1)
        out: Tensor = self.fc(hidden_BTE)
        return out

    def draft_logits(self, hidden: Tensor) -> Tensor:
        """Scores [..., W] of the draft vocabulary from hidden states as a step leaves them."""
        normed = hidden if self.norm_output else self.norm(hidden)
        out: Tensor = nn.functional.linear(normed, self.head_VD) if self.lm_head is None else self.lm_head(normed)
        return out

    def logits(self, hidden: Tensor, step: int = 1, /) -> Tensor:
        """Scores [..., V] of the target's vocabulary; tokens that the draft does not know have minus infinity."""
        scores = self.draft_logits(hidden)
        full = scores.new_full((*scores.shape[:-1], len(self.t2d)), -torch.inf)
        return full.index_copy(-1, self.draft_tokens_W, scores)


def _first_layer_renamed(_module: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
    """Some exports call the first layer as the later ones are called."""
    for name in [name for name in state if name.startswith(f"{prefix}layers.0.")]:
        state[name.replace("layers.0.", "midlayer.", 1)] = state.pop(name)


def made(config: Mapping[str, Any]) -> Eagle3Draft:
    """The draft that a checkpoint's configuration describes; which tokens it drafts is in its file."""
    count = config["draft_vocab_size"]
    extras = Eagle3Extras(
        read_size=config.get("target_hidden_size"),
        num_layers=config["num_hidden_layers"],
        input_norm=bool(config.get("norm_before_fc")),
        fc_norm=bool(config.get("fc_norm")),
        bias=bool(config.get("bias")),
        norm_output=bool(config.get("norm_output")),
    )
    tokens = None if count is None else torch.arange(count)
    return Eagle3Draft(LayerShape.of(config), tokens, len(layers_read(config)), extras)


def new_eagle3(
    config: Mapping[str, Any],
    draft_tokens_W: Tensor,
    embedding_VD: Tensor,
    head_VD: Tensor,
    seed: int,
    num_read: int = 3,
    num_layers: int = 1,
) -> Eagle3Draft:
    """An untrained draft on so many of the target's layers; its head starts as the target's rows of its vocabulary."""
    extras = Eagle3Extras(num_layers=num_layers)
    draft = Eagle3Draft(LayerShape.of(config), draft_tokens_W, num_read, extras)
    draft.adopt(embedding_VD, head_VD)
    reset(draft, seed)
    assert draft.lm_head is not None
    draft.lm_head.weight.data.copy_(head_VD[draft_tokens_W])
    return draft


def eagle3_config(
    config: Mapping[str, Any], draft_vocab_size: int, layers: tuple[int, ...], num_layers: int = 1
) -> dict[str, Any]:
    """The draft's config.json; `layers` are the target layers whose inputs it reads, as SGLang counts them."""
    return {
        **draft_fields(config),
        "architectures": [ARCHITECTURE],
        "num_hidden_layers": num_layers,
        "tie_word_embeddings": False,
        "draft_vocab_size": draft_vocab_size,
        **reads_layers(layers),
    }
