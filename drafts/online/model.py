"""The draft that is updated, in plain torch: a LLaMA as others publish it too, perhaps with a head of its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from draftbench.drafts.standalone.model import StandaloneDraft
from draftbench.drafts.training.layer import LayerShape


class UntiedDraft(StandaloneDraft):
    """A small LLaMA whose head is not its embedding."""

    def __init__(self, shape: LayerShape, num_layers: int) -> None:
        super().__init__(shape, num_layers)
        self.lm_head = nn.Linear(shape.hidden_size, shape.vocab_size, bias=False)

    def logits(self, hidden: Tensor, step: int = 1, /) -> Tensor:
        """Its head on hidden states [..., D]."""
        out: Tensor = self.lm_head(hidden)
        return out


def made(config: Mapping[str, Any]) -> StandaloneDraft:
    """The model that a checkpoint's configuration describes."""
    kind = StandaloneDraft if config.get("tie_word_embeddings") else UntiedDraft
    return kind(LayerShape.of(config), config["num_hidden_layers"])
