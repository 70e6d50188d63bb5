"""The S2D draft in plain torch: a standalone draft that can stop after some of its layers.

All exits share the embedding, the final norm and the head. At draft step 1, which the pass over accepted tokens makes,
all layers run. At later steps an entry leaves at the first exit whose likeliest token reaches its threshold; its state
stays as it is, and the layers behind go on to write keys and values from it, so that later steps find a whole cache.
Source: S2D (arXiv 2407.01955); keys and values of layers that are left out: CALM (arXiv 2207.07061, section 3.1).

Shapes: B batch, T entries, D hidden size, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from draftbench.drafts.s2d.spec import ARCHITECTURE, EXITS, THRESHOLDS
from draftbench.drafts.standalone.model import StandaloneDraft, standalone_config
from draftbench.drafts.training.layer import Attend, LayerShape, reset


class NestedDraft(StandaloneDraft):
    """A small LLaMA with tied embeddings and exits."""

    def __init__(self, shape: LayerShape, exits: Sequence[int], thresholds: Sequence[float]) -> None:
        super().__init__(shape, exits[-1])
        self.exits = tuple(exits)
        self.thresholds = dict(zip(exits[:-1], thresholds, strict=True))

    def states_of_exits(self, tokens_BT: Tensor, positions_BT: Tensor, attend: Attend) -> Iterator[Tensor]:
        """The hidden state [B, T, D] after the final norm at every exit, all layers having run."""
        x_BTD = self.model.embed_tokens(tokens_BT)
        for index, layer in enumerate(self.model.layers):
            x_BTD = layer(index, x_BTD, positions_BT, attend)
            if index + 1 in self.exits:
                yield self.model.norm(x_BTD)

    def forward(
        self, tokens_BT: Tensor, _hidden_BTD: Tensor, positions_BT: Tensor, attend: Attend, step: int = 1
    ) -> Tensor:
        """The hidden state [B, T, D], after the final norm, of the exit where each entry leaves."""
        x_BTD = self.model.embed_tokens(tokens_BT)
        left_BT1 = torch.zeros_like(tokens_BT, dtype=torch.bool)[..., None]
        for index, layer in enumerate(self.model.layers):
            x_BTD = torch.where(left_BT1, x_BTD, layer(index, x_BTD, positions_BT, attend))
            if step > 1 and (threshold := self.thresholds.get(index + 1)) is not None:
                left_BT1 = left_BT1 | (self.confidence_BT1(x_BTD) >= threshold)
        out: Tensor = self.model.norm(x_BTD)
        return out

    def confidence_BT1(self, x_BTD: Tensor) -> Tensor:
        """The probability of the token that is likeliest after these states."""
        return self.logits(self.model.norm(x_BTD)).softmax(-1).amax(-1, keepdim=True)


def made(config: Mapping[str, Any]) -> NestedDraft:
    """The model that a checkpoint's configuration describes."""
    return NestedDraft(LayerShape.of(config), config[EXITS], config[THRESHOLDS])


def new_nested(
    config: Mapping[str, Any], exits: Sequence[int], thresholds: Sequence[float], embedding_VD: Tensor, seed: int
) -> NestedDraft:
    """An untrained draft as wide as the target; its embedding starts as a copy of the target's."""
    draft = NestedDraft(LayerShape.of(config), exits, thresholds)
    reset(draft, seed)
    draft.model.embed_tokens.weight.data.copy_(embedding_VD)
    return draft


def nested_config(config: Mapping[str, Any], exits: Sequence[int], thresholds: Sequence[float]) -> dict[str, Any]:
    """The draft's config.json."""
    return {
        **standalone_config(config, exits[-1]),
        "architectures": [ARCHITECTURE],
        EXITS: list(exits),
        THRESHOLDS: list(thresholds),
    }
