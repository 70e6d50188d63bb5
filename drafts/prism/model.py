"""The PRISM draft in plain torch: M processing modules that take turns over the draft steps.

A module is what an EAGLE head is: a fusion matrix and one LLaMA layer, no input norm, no final norm. The map f from
draft steps to modules says which one runs at a step; all write their keys and values into the same cache, and module
f(1) reads the target's hidden states: the last ones, or the outputs of several layers, which a fusion matrix makes one
of. Input and output are as in `draftbench.drafts.eagle.model`.
Source: PRISM (arXiv 2602.01762, section 3.2); the fusion's form and the absence of norms follow EAGLE, as the paper
leaves them open.

Shapes: B batch, T entries, D hidden size, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from draftbench.drafts.layout import draft_fields, layers_read, reads_layers
from draftbench.drafts.prism.spec import ARCHITECTURE, STEP_TO_MODULE
from draftbench.drafts.training.draft import FeatureDraft
from draftbench.drafts.training.layer import Attend, Layer, LayerShape, reset


class PrismModule(nn.Module):
    """One fusion matrix and one layer."""

    def __init__(self, shape: LayerShape) -> None:
        super().__init__()
        self.fc = nn.Linear(2 * shape.hidden_size, shape.hidden_size)
        self.layer = Layer(shape, input_norm=False)

    def forward(self, embedded_BTD: Tensor, hidden_BTD: Tensor, positions_BT: Tensor, attend: Attend) -> Tensor:
        """Fuse the embedding with the hidden state, then the layer."""
        fused_BTD = self.fc(torch.cat((embedded_BTD, hidden_BTD), dim=-1))
        out: Tensor = self.layer(0, fused_BTD, positions_BT, attend)
        return out


class PrismDraft(FeatureDraft):
    """M modules; embedding and output head are the target's and stay frozen."""

    def __init__(self, shape: LayerShape, step_to_module: Sequence[int], num_read: int = 0) -> None:
        """`num_read` is how many of the target's layers the first step reads; 0 for its last hidden state."""
        super().__init__(shape.vocab_size, shape.hidden_size)
        self.step_to_module = tuple(step_to_module)
        self.prism_modules = nn.ModuleList([PrismModule(shape) for _ in range(max(step_to_module) + 1)])
        self.add_fusion(num_read)

    @property
    def most_steps(self) -> int:
        """Every step needs a module."""
        return len(self.step_to_module)

    def forward(self, tokens_BT: Tensor, hidden: Tensor, positions_BT: Tensor, attend: Attend, step: int = 1) -> Tensor:
        """Estimate the next hidden state [B, T, D] at every entry with the module of draft step `step` (from 1)."""
        module = self.prism_modules[self.step_to_module[step - 1]]
        out: Tensor = module(self.embed_tokens(tokens_BT), self.fused(hidden, step), positions_BT, attend)
        return out


def made(config: Mapping[str, Any]) -> PrismDraft:
    """The modules that a checkpoint's configuration describes."""
    shape = LayerShape.of(config, bool(config.get("attention_bias")))
    return PrismDraft(shape, config[STEP_TO_MODULE], len(layers_read(config)))


def new_prism(
    config: Mapping[str, Any],
    step_to_module: Sequence[int],
    embedding_VD: Tensor,
    head_VD: Tensor,
    seed: int,
    num_read: int = 0,
) -> PrismDraft:
    """An untrained draft; all modules start alike."""
    draft = PrismDraft(LayerShape.of(config), step_to_module, num_read)
    draft.adopt(embedding_VD, head_VD)
    reset(draft, seed)
    copy_first_module(draft)
    return draft


def copy_first_module(draft: PrismDraft) -> None:
    """Give every module the first one's weights."""
    first = draft.prism_modules[0].state_dict()
    for module in draft.prism_modules[1:]:
        module.load_state_dict(first)


def prism_config(
    config: Mapping[str, Any], step_to_module: Sequence[int], layers: Sequence[int] = ()
) -> dict[str, Any]:
    """The draft's config.json: the target's with one layer, and the map of the steps under `step_to_module`.

    Args:
        layers: of the target, from 0, whose outputs the first step reads; none for its last hidden state.
    """
    return {
        **draft_fields(config),
        **reads_layers(layers),
        "architectures": [ARCHITECTURE],
        "num_hidden_layers": 1,
        "tie_word_embeddings": False,
        STEP_TO_MODULE: list(step_to_module),
    }
